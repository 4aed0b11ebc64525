"""What signs in to a vCenter simulator."""

from typing import Any

from lab.vcsim.process import Vcsim
from vsphere import Credentials


def credentials_of(simulator: Vcsim, **changes: Any) -> Credentials:
    """Return what signs in to a simulator."""
    values: dict[str, Any] = {
        "host": simulator.host,
        "port": simulator.port,
        "username": simulator.username,
        "password": simulator.password,
        "thumbprint": simulator.thumbprint,
    }
    return Credentials(**{**values, **changes})
