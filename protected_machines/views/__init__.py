"""Pages and acts of protected machines, by object."""
