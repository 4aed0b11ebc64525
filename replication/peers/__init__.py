"""The other cores: pairing with them, calling them, what is said on the wire."""
