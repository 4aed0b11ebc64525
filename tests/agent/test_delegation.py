"""A core that the agent never heard of is answered by a delegation of a core that it trusts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.client import AgentClient, PairedAgent
from agent.delegation import delegation_name
from agent.errors import AgentRefusedCore
from console.identity import CoreIdentity
from protected_machines.agents.delegation import issue_delegation
from tests.places.agent import Core, RunningAgent


@pytest.fixture
def paired(agent: RunningAgent, source: Core) -> PairedAgent:
    return source.pair(agent)


def by(issuer: Core, delegate: Core, name: str) -> str:
    """Have one core delegate `name` to another."""
    path, key_path = issuer.credentials.certificate_path, issuer.credentials.key_path
    identity = CoreIdentity("", issuer.name, path, key_path, path.read_text(), "")
    return issue_delegation(identity, delegate.certificate_pem, delegate.name, name)


def calling(agent: RunningAgent, core: Core, paired: PairedAgent, *delegations: str) -> AgentClient:
    return AgentClient(
        *("127.0.0.1", agent.port, core.credentials, paired.certificate_pem),
        timeout_seconds=30,
        core_name=core.name,
        delegations_pem=delegations,
    )


def test_a_delegated_core_is_answered_and_trusted_from_then_on(
    agent: RunningAgent, source: Core, target: Core, paired: PairedAgent
) -> None:
    delegation = by(source, target, delegation_name(paired.fingerprint, 1))
    with pytest.raises(AgentRefusedCore):
        calling(agent, target, paired).describe()
    trusted = calling(agent, target, paired, delegation).describe().trusted_cores
    assert [core.name for core in trusted] == [source.name, target.name]
    calling(agent, target, paired).describe()


def test_a_delegation_does_not_count_for_another_machine(
    agent: RunningAgent, source: Core, target: Core, paired: PairedAgent
) -> None:
    delegation = by(source, target, delegation_name("ab" * 32, 1))
    with pytest.raises(AgentRefusedCore):
        calling(agent, target, paired, delegation).describe()


def test_a_delegation_of_a_core_that_is_not_trusted_does_not_count(
    agent: RunningAgent, target: Core, paired: PairedAgent, make_core: Callable[[str], Core]
) -> None:
    name = delegation_name(paired.fingerprint, 1)
    with pytest.raises(AgentRefusedCore):
        calling(agent, target, paired, by(make_core("stranger"), target, name)).describe()


def test_a_delegated_core_cannot_delegate(
    agent: RunningAgent,
    source: Core,
    target: Core,
    paired: PairedAgent,
    make_core: Callable[[str], Core],
    tmp_path: Path,
) -> None:
    """The chain ends with the core that the trusted one named."""
    name = delegation_name(paired.fingerprint, 1)
    path = tmp_path / "delegation.pem"
    path.write_text(by(source, target, name))
    identity = CoreIdentity("", "", path, target.credentials.key_path, path.read_text(), "")
    third = make_core("third-core")
    second_hand = issue_delegation(identity, third.certificate_pem, third.name, name)
    with pytest.raises(AgentRefusedCore):
        calling(agent, third, paired, second_hand + path.read_text()).describe()


def test_a_delegation_is_of_no_use_without_the_key_that_it_names(
    agent: RunningAgent, source: Core, paired: PairedAgent, make_core: Callable[[str], Core]
) -> None:
    delegation = by(source, make_core("target-core"), delegation_name(paired.fingerprint, 1))
    with pytest.raises(Exception, match=r"(?i)key.values.mismatch"):
        calling(agent, make_core("thief"), paired, delegation).describe()


def test_a_certificate_of_a_trusted_core_that_is_no_delegation_opens_nothing(
    agent: RunningAgent, source: Core, target: Core, paired: PairedAgent
) -> None:
    for name in ("urn:understudy:other", f"{delegation_name(paired.fingerprint, 1)}0000000000"):
        with pytest.raises(AgentRefusedCore):
            calling(agent, target, paired, by(source, target, name)).describe()


def test_a_delegation_that_was_withdrawn_does_not_count_and_a_later_one_does(
    agent: RunningAgent, source: Core, target: Core, paired: PairedAgent
) -> None:
    first, second = (by(source, target, delegation_name(paired.fingerprint, n)) for n in (1, 2))
    calling(agent, source, paired).withdraw_delegations(2)
    # A number that was told later but is lower changes nothing.
    calling(agent, source, paired).withdraw_delegations(1)
    agent.restart()
    with pytest.raises(AgentRefusedCore):
        calling(agent, target, paired, first).describe()
    calling(agent, target, paired, first, second).describe()
