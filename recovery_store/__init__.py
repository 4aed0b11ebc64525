"""Recovery points on disk: write, read, merge and prove them. Knows no Django.

This package is also copied onto protected machines, where only `recovery_store.vmdk` is used, with
Python 3.9 or later. So nothing is imported here; the store itself is `recovery_store.store`.
"""
