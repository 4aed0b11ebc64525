"""Recovery points on disk: write, read, merge and prove them. Knows no Django.

A protected machine carries this package too, and there only `recovery_store.vmdk` is used, with
any Python from 3.9 on. Therefore nothing is imported here; `recovery_store.store` has the store.
"""
