"""The interface between two cores, served over TLS apart from the console."""
