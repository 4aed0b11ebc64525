"""What runs on a protected machine, and the core's client for it. Knows no Django."""
