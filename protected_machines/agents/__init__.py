"""The agents of protected machines: pairing and the connection."""
