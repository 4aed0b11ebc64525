"""What each call of the public face costs the server, as `docs/vsphere.md` says."""

import re
from pathlib import Path

import pytest

from tests.vsphere.acts import ACTS, Stage
from tests.vsphere.site import World

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "vsphere.md"
ROW = re.compile(r"^\| `(?P<name>\w+\.\w+)\(\)` \| (?P<calls>\d+) \|", re.MULTILINE)


def documented() -> dict[str, int]:
    """Return the most calls that each act makes, as people read it."""
    return {row["name"]: int(row["calls"]) for row in ROW.finditer(DOCUMENT.read_text())}


def test_the_document_lists_every_act() -> None:
    assert list(documented()) == list(ACTS)


def test_no_act_costs_more_than_documented(world: World) -> None:
    """Of a vCenter, and a machine with one disk. Waits for a task may need fewer calls."""
    stage = Stage(world)
    measured = {}
    for name, (act, outcome) in ACTS.items():
        vm = stage.prepare(name)
        before = sum(world.vcsim.served()["calls"].values())
        assert act(world, vm) == outcome
        measured[name] = sum(world.vcsim.served()["calls"].values()) - before
        stage.clean_up(name)
    limits = documented()
    assert {name: calls for name, calls in measured.items() if calls > limits[name]} == {}


@pytest.mark.parametrize("machines", [1, 3])
def test_a_look_by_identity_costs_one_call_whatever_else_there_is(
    world: World, machines: int
) -> None:
    moids = [
        world.import_one(world.spec(name=f"web-{number}"), marker=f"marker-{number}")
        for number in range(machines)
    ]
    identity = world.session.get_vm(moids[0]).identity
    before = sum(world.vcsim.served()["calls"].values())
    vm = world.session.find_vm("marker-0", identity)
    assert vm is not None
    assert not vm.guest().tools_running
    assert sum(world.vcsim.served()["calls"].values()) == before + 1
