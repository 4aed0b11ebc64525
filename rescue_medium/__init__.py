"""The rescue medium: a small system that boots from CD or USB and lets a core restore the machine.

`python -m rescue_medium build` builds it from Debian packages and the agent. The console offers the
file for download. Nothing here knows about cores or the lab.
"""
