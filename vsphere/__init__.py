"""vCenter and ESXi behind our own types; the only place that speaks pyvmomi."""
