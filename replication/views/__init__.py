"""Pages and acts of replication, one module per object."""
