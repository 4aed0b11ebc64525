"""The interface between cores, served over TLS, separately from the console."""
