"""The vSphere simulator of the lab: a Go program, and how to start it."""
