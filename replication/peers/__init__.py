"""The other cores: pairing with them, calling them, and the messages on the wire."""
