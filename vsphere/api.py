"""pyvmomi, as this package uses it.

The type hints of pyvmomi 9.1 omit constructors and whole classes, so its names are `Any` here;
what the package returns has its own types.
"""

from typing import Any

import pyVmomi
from pyVmomi import vim as _vim
from pyVmomi import vmodl as _vmodl
from pyVmomi.VmomiSupport import GetServiceVersions, versionIdMap

vim: Any = _vim
vmodl: Any = _vmodl
SoapStubAdapter: Any = pyVmomi.SoapStubAdapter  # type: ignore[attr-defined]


def offered_versions() -> list[tuple[str, str]]:
    """Return pyvmomi's versions of the API, newest first, as (its own name, the server's name)."""
    names: list[str] = GetServiceVersions("vim25")  # type: ignore[no-untyped-call]
    return [(name, versionIdMap[name]) for name in names]
