"""Finds the newest API version that a server and pyvmomi have in common.

pyvmomi can do this too, but without a time limit for a server that accepts and stays silent.
"""

import http.client
import re
import ssl

from vsphere.api import offered_versions
from vsphere.errors import VSphereUnreachable

PATH = "/sdk/vimServiceVersions.xml"
LONGEST_ANSWER_BYTES = 1 << 20
VERSION = re.compile(r"<version>\s*([\w.]+)\s*</version>")


def negotiate(host: str, port: int, context: ssl.SSLContext, timeout_seconds: float) -> str:
    """Return pyvmomi's name of that version.

    Raises:
        VSphereUnreachable: no vSphere answers there, or it is too old.
        OSError, http.client.HTTPException: the connection failed.
    """
    connection = http.client.HTTPSConnection(host, port, timeout=timeout_seconds, context=context)
    try:
        connection.request("GET", PATH)
        answer = connection.getresponse()
        text = answer.read(LONGEST_ANSWER_BYTES).decode(errors="replace")
    finally:
        connection.close()
    theirs = set(VERSION.findall(text)) if answer.status == http.client.OK else set()
    for name, version_id in offered_versions():
        if version_id in theirs:
            return name
    raise VSphereUnreachable(
        f"Connect to {host}:{port}: the server there ({answer.status} {answer.reason}) is not a "
        "vSphere that this version of Understudy supports. Check address and port."
    )
