"""The version of this software: one for console, core interface and agent.

It stands in the agent because that is the part that is copied to other machines alone.
"""

VERSION = "0.1.0"
