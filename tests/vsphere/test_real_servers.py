"""What real servers answer at bad moments: for every act, on vCenter and on ESXi."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.vsphere.acts import ACTS, OUTSIDE_OF_API, WITHOUT_CALLS, Stage, public_acts
from tests.vsphere.site import MARKER, World, space
from tests.vsphere.test_machine import ALTERED
from vsphere import Vm, VmNic
from vsphere.api import vim
from vsphere.errors import (
    AnswerUnknown,
    LeaseLost,
    NoPermission,
    SessionLost,
    VSphereError,
    VSphereUnreachable,
)
from vsphere.properties import read
from vsphere.site import has_drs
from vsphere.stub import IDLE_SECONDS

# What goes wrong, and the error that it leads to: none if the act succeeds all the same.
FAULTS: dict[str, tuple[dict[str, Any], type[VSphereError] | None]] = {
    "session ended": ({"expire_sessions": True}, None),
    "connection closed": ({"drop_idle": True}, None),
    "proxy answers": ({"answers": [{"answer": "html"}]}, VSphereUnreachable),
    "connection always breaks": ({"answers": [{"answer": "lost"}]}, VSphereUnreachable),
    "unknown type": ({"answers": [{"answer": "unknown"}]}, AnswerUnknown),
    "server restarts": ({"restart_ms": 3_600_000}, VSphereUnreachable),
    "no right": ({"answers": [{"answer": "no_permission"}]}, NoPermission),
}


# Their repetition could do something twice.
WRITES = (
    "ImportVApp",
    "PowerOnVM_Task",
    "PowerOnMultiVM_Task",
    "PowerOffVM_Task",
    "RebootGuest",
    "ShutdownGuest",
    "ResetVM_Task",
    "ReconfigVM_Task",
    "Destroy_Task",
)


@pytest.fixture(scope="module")
def stage(either: World) -> Stage:
    """One machine that all acts are tried on."""
    return Stage(either)


@pytest.fixture
def vm(stage: Stage, name: str) -> Iterator[Vm]:
    """That machine, on if the act needs it; whatever an act made is removed."""
    yield stage.prepare(name)
    stage.clean_up(name)


def test_the_list_of_acts_is_whole() -> None:
    assert sorted(ACTS) == sorted(public_acts())


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ACTS)
def test_an_act_succeeds_or_says_what_is_wrong(
    either: World, vm: Vm, name: str, fault: str
) -> None:
    settings, error = FAULTS[fault]
    act, outcome = ACTS[name]
    either.vcsim.faults(**settings)
    is_reached = name not in WITHOUT_CALLS or (name in OUTSIDE_OF_API and "restart_ms" in settings)
    if error is None or not is_reached:
        assert act(either, vm) == outcome
    else:
        with pytest.raises(VSphereError) as caught:
            act(either, vm)
        assert type(caught.value) is error


@pytest.mark.parametrize("name", ACTS)
def test_a_session_that_ends_at_any_call_is_never_an_empty_vsphere(
    either: World, stage: Stage, name: str
) -> None:
    act, outcome = ACTS[name]
    for method in stage.called(name):
        vm = stage.prepare(name)
        either.vcsim.faults(answers=[{"call": method, "answer": "session_ended", "times": 1}])
        try:
            assert act(either, vm) == outcome, method
        except SessionLost:
            assert name == "Session.import_vm", method  # a lease ends with its session
            assert method not in ("ImportVApp", "QueryConfigOption")
        finally:
            stage.clean_up(name)


@pytest.mark.parametrize("name", ACTS)
def test_reads_are_repeated_if_the_connection_breaks_and_writes_are_not(
    either: World, stage: Stage, name: str
) -> None:
    act, outcome = ACTS[name]
    for method in stage.called(name):
        vm = stage.prepare(name)
        either.vcsim.faults(answers=[{"call": method, "answer": "lost", "times": 1}])
        try:
            assert act(either, vm) == outcome, method
        except VSphereUnreachable:
            assert method in WRITES
            assert either.session.find_vm("another") is None  # nothing is left behind
        finally:
            stage.clean_up(name)


@pytest.mark.parametrize("answer", ["lost", "lost_after", "unknown"])
@pytest.mark.parametrize("method", ["HttpNfcLeaseComplete", "HttpNfcLeaseGetManifest"])
@pytest.mark.parametrize("name", ["Session.import_vm"])
def test_an_import_is_not_thrown_away_because_of_one_lost_answer_at_its_end(
    either: World, vm: Vm, name: str, method: str, answer: str
) -> None:
    either.vcsim.faults(answers=[{"call": method, "answer": answer, "times": 1}])
    act, outcome = ACTS[name]
    assert act(either, vm) == outcome


@pytest.mark.parametrize("name", ["Session.import_vm"])
def test_an_import_whose_machine_is_gone_at_its_completion_has_failed(
    either: World, vm: Vm, name: str
) -> None:
    either.vcsim.faults(
        answers=[{"call": "HttpNfcLeaseComplete", "answer": "leases_ended", "times": 1}]
    )
    act, _ = ACTS[name]
    with pytest.raises(LeaseLost, match="Try again"):
        act(either, vm)
    either.vcsim.no_faults()
    assert either.machine_names() == ["web-01"]


def test_what_is_only_nice_to_know_stops_no_import(world: World) -> None:
    for answer in ("unknown", "html", "lost", "no_permission", "nothing"):
        world.vcsim.faults(answers=[{"call": "QueryConfigOption", "answer": answer}])
        world.session.get_vm(world.import_one()).destroy(MARKER)


def test_a_cluster_whose_settings_are_unknown_powers_machines_on(world: World) -> None:
    vm = world.session.get_vm(world.import_one())
    settings = [{"call": "RetrievePropertiesEx", "answer": "unknown", "times": 1}]
    cluster = vim.ClusterComputeResource(world.cluster.moid, world.session.calls.stub)
    world.vcsim.faults(answers=settings)
    assert has_drs(world.session.calls.content, cluster)
    vm.power_on()
    assert vm.is_on


def test_a_connection_that_was_idle_for_long_is_not_used_again(world: World) -> None:
    world.session.inventory()
    stub = world.session.calls.stub
    (connection, _) = stub.pool[0]
    stub.pool[0] = (connection, time.time() - IDLE_SECONDS)
    world.session.inventory()
    assert connection.sock is None
    assert stub.pool[0][0] is not connection


def test_a_switch_that_may_not_be_read_is_a_missing_right(world: World) -> None:
    group = next(one for one in world.inventory.networks if one.name == "DC0_DVPG0")
    content = world.session.calls.content
    found = read(
        content,
        vim.DistributedVirtualPortgroup(group.moid, world.session.calls.stub),
        ("config.distributedVirtualSwitch",),
    )
    switch = found["config.distributedVirtualSwitch"]._moId
    world.vcsim.faults(unreadable=[switch])
    (unreadable,) = world.session.inventory().unreadable
    assert (unreadable.kind, unreadable.moid) == ("distributed switch", switch)
    placement = replace(world.placement, network=group.moid)
    (finding,) = world.session.check_placement(placement, "web-01", space(1 << 20))
    assert finding.code == "PLACEMENT-PRIVILEGE-MISSING"
    assert finding.text == "The account lacks System.Read on the distributed switch of DC0_DVPG0."
    before = world.machine_names()
    with pytest.raises(NoPermission, match=rf"System\.Read on \w+ {switch}"):
        world.import_one(world.spec(nics=[VmNic(group.moid)]))
    assert world.machine_names() == before


@pytest.mark.parametrize("role", ["datacenter", "resource_pool", "datastore", "folder"])
def test_a_place_that_may_not_be_read_is_a_missing_right(world: World, role: str) -> None:
    placement = replace(world.placement, folder=world.inventory.datacenters[0].folder)
    moid = getattr(placement, role)
    world.vcsim.faults(unreadable=[moid])
    for act in (
        lambda: world.import_one(placement=placement),
        lambda: world.session.check_placement(placement, "web-01", space(1 << 20)),
    ):
        with pytest.raises(NoPermission, match=rf"System\.Read on \w+ {moid}"):
            act()


def test_what_may_not_be_read_is_left_out_of_the_inventory(world: World) -> None:
    world.vcsim.faults(unreadable=[world.datastore.moid, world.cluster.moid])
    inventory = world.session.inventory()
    assert inventory.datastores == ()
    assert [cluster.is_cluster for cluster in inventory.clusters] == [False]
    assert {host.path for host in inventory.hosts} == {host.path for host in world.inventory.hosts}
    assert [(one.kind, one.name, one.privilege) for one in inventory.unreadable] == [
        ("datastore", world.datastore.name, "System.Read"),
        ("cluster", world.cluster.name, "System.Read"),
    ]
    assert {one.datacenter for one in inventory.unreadable} == {world.placement.datacenter}


def test_an_account_that_may_read_nothing_sees_no_empty_vsphere(world: World) -> None:
    world.vcsim.faults(unreadable=[world.inventory.datacenters[0].moid])
    with pytest.raises(NoPermission, match="Read the inventory: the account lacks"):
        world.session.inventory()


def test_a_question_is_answered_in_a_new_session_if_the_first_one_ends(world: World) -> None:
    vm = world.session.get_vm(world.import_one())
    world.vcsim.faults(
        question=ALTERED, answers=[{"call": "AnswerVM", "answer": "session_ended", "times": 1}]
    )
    vm.power_on()
    assert vm.is_on
