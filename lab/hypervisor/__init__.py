"""The lab's hypervisor: what is powered on in the simulated vCenter runs in QEMU.

A process of its own watches the simulator. A virtual machine that is switched on there boots from
the very disks that were uploaded, on the hardware that its configuration names. What the guest
tools inside say (host name, boot id, drivers) and the address it is reached at go back into the
simulator, where a client finds them as it would with a real one.
"""
