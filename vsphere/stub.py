"""Every call to a server passes through here, where pyvmomi's own errors become ours.

pyvmomi takes a proxy's page for an empty answer, ends with whatever Python raises at a type it does
not know, and uses connections again that the other side has given up long ago.
"""

import http.client
import select
import time
from dataclasses import dataclass
from typing import Any
from xml.parsers.expat import ExpatError

from agent.version import VERSION
from vsphere.api import SoapStubAdapter
from vsphere.errors import VSphereError
from vsphere.faults import FAILED_CALL, UnknownAnswer

USER_AGENT = f"Understudy/{VERSION}"  # the name of a session in the vSphere client
IDLE_SECONDS = 10  # firewalls and balancers drop idle connections, often without a word


@dataclass
class Patience:
    """How long to wait for each answer, and until when for all of them together."""

    call_seconds: float
    ends_at_seconds: float | None = None  # of the monotonic clock

    def seconds_left(self) -> float:
        """Return how long to wait for the next answer.

        Raises:
            TimeoutError: there is no time left for another call.
        """
        if self.ends_at_seconds is None:
            return self.call_seconds
        left_seconds = self.ends_at_seconds - time.monotonic()
        if left_seconds <= 0:
            raise TimeoutError("the time limit for all calls together is over")
        return min(self.call_seconds, left_seconds)


class Stub(SoapStubAdapter):  # type: ignore[misc]
    """A pool of connections to one server, for one thread. Its calls raise FAILED_CALL."""

    def __init__(self, patience: Patience, **options: Any) -> None:
        super().__init__(
            connectionPoolTimeout=IDLE_SECONDS, customHeaders={"User-Agent": USER_AGENT}, **options
        )
        self.scheme = _Connection
        self.patience = patience

    def InvokeMethod(self, *call: Any, **more: Any) -> Any:
        """Call the server."""
        try:
            return super().InvokeMethod(*call, **more)
        except (VSphereError, *FAILED_CALL):
            raise
        except ExpatError as error:
            raise http.client.HTTPException(f"the answer is cut or no XML: {error}") from error
        except Exception as error:
            raise UnknownAnswer(f"{type(error).__name__}: {error}") from error

    def GetConnection(self) -> http.client.HTTPSConnection:
        """Return a connection that the other side has not closed, as far as one can see."""
        seconds_left = self.patience.seconds_left()
        connection: http.client.HTTPSConnection = super().GetConnection()
        if connection.sock is not None:
            poll = select.poll()
            poll.register(connection.sock, select.POLLIN)
            if poll.poll(0):  # nothing is expected, so this is its end
                connection.close()  # the next request opens it again
        connection.timeout = seconds_left
        if connection.sock is not None:
            connection.sock.settimeout(connection.timeout)
        return connection


class _Connection(http.client.HTTPSConnection):
    """A connection on which only vSphere's own answers count."""

    def getresponse(self) -> http.client.HTTPResponse:
        answer = super().getresponse()
        media_type = answer.getheader("Content-Type", "")
        is_xml = "xml" in media_type and "html" not in media_type
        if answer.status in (http.client.OK, http.client.INTERNAL_SERVER_ERROR) and not is_xml:
            raise http.client.HTTPException(
                f"the answer is {media_type or 'of no type'}, so it is not vSphere's but perhaps a "
                "proxy's"
            )
        return answer
