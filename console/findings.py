"""Findings about an act that has not started; shown by `console/_findings.html`."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


class Severity(enum.StrEnum):
    """An error blocks the act; a warning is for the administrator to judge."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One thing to know before an act. `code` is stable; `text` gives the reason."""

    code: str
    severity: Severity
    text: str

    @classmethod
    def error(cls, code: str, text: str) -> Self:
        return cls(code, Severity.ERROR, text)

    @classmethod
    def warning(cls, code: str, text: str) -> Self:
        return cls(code, Severity.WARNING, text)

    @property
    def is_error(self) -> bool:
        return self.severity is Severity.ERROR


def has_errors(findings: Iterable[Finding]) -> bool:
    return any(finding.is_error for finding in findings)


def errors_first(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: not finding.is_error)
