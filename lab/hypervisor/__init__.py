"""The lab's hypervisor: what is powered on in the simulated vCenter runs in QEMU.

A separate process watches the simulator. A virtual machine that is powered on there boots from the
disks that were uploaded, on the hardware in its configuration. What the guest tools report (host
name, boot id, drivers) and the machine's address are written to the simulator, where a client finds
them as in a real vCenter.
"""
