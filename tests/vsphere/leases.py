"""An import opened by hand, to be misused."""

import dataclasses
import http.client
import ssl
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from tests.vsphere.site import MARKER, STREAM, World
from vsphere.api import vim
from vsphere.site import network_backing
from vsphere.spec import build_config
from vsphere.upload import MEDIA_TYPE


@dataclasses.dataclass
class Lease:
    """An import opened by hand, to be misused."""

    world: World
    managed: Any

    @property
    def state(self) -> str:
        return str(self.managed.state)

    def wait(self) -> str:
        deadline = time.monotonic() + 10
        while self.state == "initializing" and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.state

    def url(self, number: int = 0) -> Any:
        return urlsplit(self.managed.info.deviceUrl[number].url)

    def post(
        self,
        body: Any = STREAM,
        *,
        method: str = "POST",
        media_type: str = MEDIA_TYPE,
        chunked: bool = False,
        number: int = 0,
        path: str | None = None,
    ) -> tuple[int, str]:
        """Send a body; return status and text of the answer."""
        vcsim = self.world.vcsim
        context = ssl.create_default_context(cafile=str(vcsim.certificate_path))
        connection = http.client.HTTPSConnection(
            vcsim.host, vcsim.port, context=context, timeout=30
        )
        try:
            connection.request(
                method,
                path or self.url(number).path,
                body=iter([body]) if chunked else body,
                headers={"Content-Type": media_type},
                encode_chunked=chunked,
            )
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (BrokenPipeError, ConnectionResetError):
            return 0, "connection closed"
        finally:
            connection.close()


def open_lease(world: World, change: Callable[[Any], None] | None = None, **changes: Any) -> Lease:
    spec = world.spec(**changes)
    content = world.session.calls.content
    config = build_config(
        spec,
        datastore_name=world.datastore.name,
        nic_backings=[network_backing(content, nic.network, "Test") for nic in spec.nics],
        marker=MARKER,
        hardware_version="vmx-14",
        guest_id=spec.guest_id,
    )
    if change:
        change(config)
    pool = vim.ResourcePool(world.placement.resource_pool, world.session.calls.stub)
    folder = vim.Folder(world.inventory.datacenters[0].folder, world.session.calls.stub)
    managed = pool.ImportVApp(spec=vim.vm.VmImportSpec(configSpec=config), folder=folder)
    return Lease(world, managed)
