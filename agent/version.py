"""The version of this software, shared by the console, the core interface and the agent.

It is kept in the agent because the agent is copied to other machines without the rest.
"""

VERSION = "0.1.0"
