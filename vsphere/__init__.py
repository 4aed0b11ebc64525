"""vCenter and ESXi behind our own types; the only package that uses pyvmomi.

It knows neither Django nor recovery points: a disk is a length and a way to read its stream.

    with connect(Credentials(host, 443, user, password, thumbprint)) as session:
        findings = session.check_placement(placement, "web-01", space)
        moid = session.import_vm(spec, disks, placement, marker, progress, check_cancel)
        session.get_vm(moid).power_on()
"""

from vsphere.door import Credentials
from vsphere.guest import Guest
from vsphere.hardware import Hardware
from vsphere.inventory import Inventory
from vsphere.machine import Vm, VmIdentity
from vsphere.placement import PlacementFinding
from vsphere.session import About, Session, connect
from vsphere.shared import SharedSessions
from vsphere.spec import DiskUpload, Placement, VmDisk, VmNic, VmSpace, VmSpec
from vsphere.tls import fetch_thumbprint
from vsphere.upload import UploadLine

__all__ = [
    "About",
    "Credentials",
    "DiskUpload",
    "Guest",
    "Hardware",
    "Inventory",
    "Placement",
    "PlacementFinding",
    "Session",
    "SharedSessions",
    "UploadLine",
    "Vm",
    "VmDisk",
    "VmIdentity",
    "VmNic",
    "VmSpace",
    "VmSpec",
    "connect",
    "fetch_thumbprint",
]
