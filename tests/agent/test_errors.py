"""Codes of errors: each once, in the manual, and the same on both sides of the wire."""

from collections.abc import Iterator
from pathlib import Path

from agent import errors
from agent.errors import AgentError, error_from_wire

MANUAL = Path(__file__).resolve().parents[2] / "docs/agent.md"
# Raised by the client or only logged; an agent never reports them.
NEVER_SENT = {"AGENT-UNREACHABLE", "AGENT-CERTIFICATE-CHANGED", "AGENT-GONE", "AGENT-CORE-GONE"}


def classes(base: type[AgentError] = AgentError) -> Iterator[type[AgentError]]:
    for found in base.__subclasses__():
        if found.__module__ == errors.__name__:
            yield found
            yield from classes(found)


def test_every_error_has_a_code_of_its_own_that_the_manual_explains() -> None:
    codes = [found.code for found in classes()]
    table = MANUAL.read_text().partition("\n## Errors\n")[2]

    assert len(codes) == len(set(codes))
    assert [code for code in codes if f"`{code}`" not in table] == []


def test_the_tree_names_every_error() -> None:
    tree = (errors.__doc__ or "").split()

    assert [found.__name__ for found in classes() if found.__name__ not in tree] == []


def test_what_an_agent_reports_is_raised_as_the_same_error() -> None:
    for found in classes():
        if found.code not in NEVER_SENT:
            assert type(error_from_wire(found.code, "text")) is found
