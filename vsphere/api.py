"""pyvmomi, as this package uses it.

pyvmomi's type hints leave out constructors and whole classes (9.1), so its names are `Any` here;
what the package hands out has types of its own.
"""

from typing import Any

import pyVim.connect
import pyVmomi

vim: Any = pyVmomi.vim
vmodl: Any = pyVmomi.vmodl
SoapStubAdapter: Any = pyVmomi.SoapStubAdapter  # type: ignore[attr-defined]
SmartStubAdapter: Any = pyVim.connect.SmartStubAdapter
