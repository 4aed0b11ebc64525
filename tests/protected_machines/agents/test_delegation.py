"""Which delegations a core keeps: by the owner, to this core, of this very machine."""

from collections.abc import Callable

import pytest

from agent.delegation import delegation_name
from console.identity import CoreIdentity, fingerprint_of, this_core
from protected_machines.agents.delegation import (
    check_delegation,
    delegate_machine,
    issue_delegation,
    keep_delegation,
)
from protected_machines.errors import DelegationWrong
from protected_machines.models import Machine
from tests.factories import make_machine
from tests.places.agent import make_core

Identity = Callable[[str], CoreIdentity]


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    made: dict[str, CoreIdentity] = {}

    def identity_of(name: str) -> CoreIdentity:
        if name not in made:
            core = make_core(tmp_path_factory.mktemp("core"), name)
            paths = (core.credentials.certificate_path, core.credentials.key_path)
            pem = core.certificate_pem
            made[name] = CoreIdentity("", name, *paths, pem, fingerprint_of(pem))
        return made[name]

    return identity_of


@pytest.fixture
def machine(db: None, identity: Identity) -> Machine:
    return make_machine(agent_certificate_pem=identity("agent").certificate_pem)


def name_of(machine: Machine, number: int = 1) -> str:
    return delegation_name(fingerprint_of(machine.agent_certificate_pem), number)


def to_this_core(issuer: CoreIdentity, name: str) -> str:
    return issue_delegation(issuer, this_core().certificate_pem, "Here", name)


def test_the_newest_delegation_of_each_issuer_is_kept(machine: Machine, identity: Identity) -> None:
    first, other = identity("source"), identity("earlier source")
    for issuer, number in ((first, 1), (first, 3), (first, 2), (other, 1)):
        delegation = to_this_core(issuer, name_of(machine, number))
        keep_delegation(machine, delegation, issuer.certificate_pem)
    kept = dict(machine.delegations.values_list("issuer_fingerprint", "number"))
    assert kept == {first.fingerprint: 3, other.fingerprint: 1}


@pytest.mark.parametrize(("issuer", "agent"), [("stranger", "agent"), ("source", "another agent")])
def test_a_delegation_of_another_owner_or_machine_is_refused(
    machine: Machine, identity: Identity, issuer: str, agent: str
) -> None:
    name = delegation_name(identity(agent).fingerprint, 1)
    with pytest.raises(DelegationWrong):
        keep_delegation(
            machine, to_this_core(identity(issuer), name), identity("source").certificate_pem
        )
    assert not machine.delegations.exists()


def test_a_delegation_to_another_core_is_refused(machine: Machine, identity: Identity) -> None:
    source, other = identity("source"), identity("other target")
    delegation = issue_delegation(source, other.certificate_pem, "Other", name_of(machine))
    with pytest.raises(DelegationWrong, match="for another core"):
        keep_delegation(machine, delegation, source.certificate_pem)


def test_a_certificate_that_is_no_delegation_is_refused(
    machine: Machine, identity: Identity
) -> None:
    source = identity("source")
    with pytest.raises(DelegationWrong):
        keep_delegation(machine, source.certificate_pem, source.certificate_pem)


def test_this_core_delegates_by_its_machine_s_number(machine: Machine, identity: Identity) -> None:
    target = identity("target")
    machine.delegation_number = 7
    delegation = delegate_machine(machine, target.certificate_pem, "Target" * 40)
    number = check_delegation(
        delegation,
        this_core().certificate_pem,
        target.certificate_pem,
        machine.agent_certificate_pem,
    )
    assert number == 7
