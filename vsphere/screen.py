"""The screen of a virtual machine, as vSphere's own address for it shows it."""

import http.client
from urllib.parse import urlencode

from vsphere.api import vim
from vsphere.calls import Calls
from vsphere.errors import NoScreen

LARGEST_BYTES = 16 << 20
_PNG = b"\x89PNG\r\n\x1a\n"


def take_screenshot(calls: Calls, moid: str) -> bytes:
    """Return the screen of a machine that is on, as PNG.

    Raises:
        NoScreen: the server shows none: the machine is off, or the account may not see it.
    """
    doing = f"Show the screen of virtual machine {moid}"
    return calls.repeating(doing, lambda: _get(calls, moid, doing))


def _get(calls: Calls, moid: str, doing: str) -> bytes:
    door = calls.door
    connection = http.client.HTTPSConnection(
        door.credentials.host,
        door.credentials.port,
        timeout=door.timeout_seconds,
        context=door.context,
    )
    try:
        cookie = str(calls.stub.cookie).partition(";")[0]
        connection.request("GET", f"/screen?{urlencode({'id': moid})}", headers={"Cookie": cookie})
        answer = connection.getresponse()
        picture = answer.read(LARGEST_BYTES + 1)
    finally:
        connection.close()
    if answer.status == http.client.UNAUTHORIZED:
        raise vim.fault.NotAuthenticated()
    if answer.status != http.client.OK or not picture.startswith(_PNG):
        raise NoScreen(
            f"{doing}: the server answered {answer.status} {answer.reason}. It shows the screen "
            "only of a machine that is on, and to an account with the privilege "
            "VirtualMachine.Interact.CreateScreenshot; some versions only at the host's address."
        )
    if len(picture) > LARGEST_BYTES:
        raise NoScreen(f"{doing}: the picture has more than {LARGEST_BYTES:,} bytes.")
    return picture
