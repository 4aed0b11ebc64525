"""The agent that runs on a protected machine, and the core's client for it, without Django."""
