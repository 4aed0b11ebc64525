"""The restoring half of the agent, for a machine that was started from the rescue medium."""
