"""Why a connection failed, in words for people: of agents, cores and vSphere alike.

The only place that words it. What an administrator reads names what happened, not the error number
of this computer's C library.
"""

from __future__ import annotations

import errno
import http.client
import socket
import ssl

_REFUSED = "it refuses connections"
_CLOSED = "it closed the connection"
_NO_ROUTE = "there is no route to it"
_SILENT = "it did not answer in time"
_UNNAMED = "its name cannot be resolved"
_BY_NUMBER = {
    errno.ECONNREFUSED: _REFUSED,
    errno.ECONNRESET: _CLOSED,
    errno.ECONNABORTED: _CLOSED,
    errno.EPIPE: _CLOSED,
    errno.EHOSTUNREACH: _NO_ROUTE,
    errno.ENETUNREACH: _NO_ROUTE,
    errno.ENETDOWN: "this computer's network is down",
    errno.EADDRNOTAVAIL: _NO_ROUTE,
    errno.ETIMEDOUT: _SILENT,
}
_BY_CLASS: tuple[tuple[type[BaseException], str], ...] = (
    (socket.timeout, _SILENT),  # from Python 3.10 on the same as TimeoutError
    (TimeoutError, _SILENT),
    (socket.gaierror, _UNNAMED),
    (UnicodeError, _UNNAMED),  # of a name that cannot be one
    (ssl.SSLEOFError, _CLOSED),
    (ssl.SSLZeroReturnError, _CLOSED),
    (ConnectionRefusedError, _REFUSED),
    (ConnectionError, _CLOSED),
    (http.client.IncompleteRead, "it closed the connection in the middle of its answer"),
)
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")


def reason_of(error: BaseException) -> str:
    """Return in words why a connection failed; a library's error tells it by its cause."""
    cause: BaseException | None = error
    while cause is not None:
        found = _reason_of_one(cause)
        if found:
            return found
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _reason_of_one(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in _BY_NUMBER:
        return _BY_NUMBER[error.errno]
    for kind, reason in _BY_CLASS:
        if isinstance(error, kind):
            return reason
    if isinstance(error, ssl.SSLError) and error.reason:
        if error.reason in _NOT_TLS:
            return "what answers there does not speak TLS"
        return f"TLS failed: {error.reason.replace('_', ' ').lower()}"
    return ""
