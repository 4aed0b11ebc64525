"""Sign-in, and who may do what."""
