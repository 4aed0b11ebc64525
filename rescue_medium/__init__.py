"""The rescue medium: a small system that boots from CD or USB stick and lets a core restore it.

Made from Debian's packages and the agent; `python -m rescue_medium build` writes it. The console
offers the file for download. Nothing here knows a core or the lab.
"""
