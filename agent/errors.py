"""Errors of the agent and of its client. The tree:

AgentError
    AgentUnreachable          nothing answers, or what answers is not an agent
    AgentCertificateChanged   the agent that answers is not the one that was paired
    AgentRefusedCore          the agent does not know this core
    WrongPairingCode          the code is wrong
    PairingClosed             the code has been used, or was wrong too often
    AgentBusy                 the agent is doing something that excludes the request
    AgentGone                 the connection broke in the middle of a stream
    CoreGone                  the same, on the agent's side
    ProtocolBroken            a message that the protocol does not allow
    SnapshotFailed            the view could not be made or read
        ViewInvalid           the copy-on-write space ran out while the view was read
    HoldLost                  file systems that should have stayed frozen were thawed
    RestoreFailed             a disk could not be written, or a grain does not inflate
    RestoreRefused            this machine cannot take the restore
        DiskTooSmall          the disk is smaller than the one in the point
        RestoreUnknown        the disk does not hold what the difference builds on
    ConfigurationWrong        agent.json or the state folder cannot be used
    RequestRefused            the agent does not know the request, or will not do it

Codes are stable: pages, manuals and scripts refer to them, and they are sent over the wire.
"""

from __future__ import annotations


class AgentError(Exception):
    """Base of everything the agent and its client raise on purpose."""

    code = "AGENT-ERROR"


class AgentUnreachable(AgentError):
    code = "AGENT-UNREACHABLE"


class AgentCertificateChanged(AgentError):
    code = "AGENT-CERTIFICATE-CHANGED"

    def __init__(self, text: str, fingerprint: str = "") -> None:
        """`fingerprint` is that of the certificate that was shown, in lower-case hex."""
        super().__init__(text)
        self.fingerprint = fingerprint


class AgentRefusedCore(AgentError):
    code = "AGENT-REFUSED-CORE"


class WrongPairingCode(AgentError):
    code = "AGENT-PAIRING-CODE-WRONG"


class PairingClosed(AgentError):
    code = "AGENT-PAIRING-CLOSED"


class AgentBusy(AgentError):
    code = "AGENT-BUSY"


class AgentGone(AgentError):
    code = "AGENT-GONE"


class CoreGone(AgentError):
    code = "AGENT-CORE-GONE"


class ProtocolBroken(AgentError):
    code = "AGENT-PROTOCOL-BROKEN"


class SnapshotFailed(AgentError):
    code = "AGENT-SNAPSHOT-FAILED"


class ViewInvalid(SnapshotFailed):
    code = "AGENT-VIEW-INVALID"


class HoldLost(AgentError):
    code = "AGENT-HOLD-LOST"


class RestoreFailed(AgentError):
    code = "AGENT-RESTORE-FAILED"


class RestoreRefused(AgentError):
    code = "AGENT-RESTORE-REFUSED"


class DiskTooSmall(RestoreRefused):
    """`missing_bytes`: by how much the disk is too small; zero if only the text says so."""

    code = "AGENT-DISK-TOO-SMALL"

    def __init__(self, text: str, missing_bytes: int = 0) -> None:
        super().__init__(text)
        self.missing_bytes = missing_bytes


class RestoreUnknown(RestoreRefused):
    code = "AGENT-RESTORE-UNKNOWN"


class ConfigurationWrong(AgentError):
    code = "AGENT-CONFIGURATION-WRONG"


class RequestRefused(AgentError):
    code = "AGENT-REQUEST-REFUSED"


_SENT_BY_AGENT: dict[str, type[AgentError]] = {
    error.code: error
    for error in (
        AgentRefusedCore,
        WrongPairingCode,
        PairingClosed,
        AgentBusy,
        ProtocolBroken,
        SnapshotFailed,
        ViewInvalid,
        HoldLost,
        RestoreFailed,
        RestoreRefused,
        DiskTooSmall,
        RestoreUnknown,
        ConfigurationWrong,
        RequestRefused,
    )
}


def error_from_wire(code: str, text: str) -> AgentError:
    """Return the error for the `code` and `text` that an agent reported.

    A code that this release does not know becomes `SnapshotFailed` with the code in its text.
    """
    known = _SENT_BY_AGENT.get(code)
    return known(text) if known else SnapshotFailed(f"{text} ({code})")
