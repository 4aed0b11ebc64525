"""What an agent says of its machine is believed within limits, and kept as it was said."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.client import MachineDescription
from agent.errors import ProtocolBroken
from agent.protocol import MAX_CAPACITY_BYTES, MAX_DISKS
from tests.agent.wrong_descriptions import example, wrong_descriptions
from tests.factories import DESCRIPTION
from tests.places.agent import Core, RunningAgent

DISK = {"number": 0, "key": "gpt-1", "capacity_bytes": 512}
RESCUE_DISK = {**DISK, "device": "/dev/sda", "is_blank": False, "content": "ext-1"}
LONG = "x" * 5000
FIELDS = sorted({**DESCRIPTION, **RESCUE_DISK, "mode": "", "can_watch": "", "name": "", "mac": ""})
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("ab\0\ud800", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner),
    max_leaves=10,
)


def complete(description: dict[str, Any]) -> dict[str, Any]:
    return {
        "mode": "protect",
        "can_watch": False,
        "reads_settings_disk": False,
        "sockets": 0,
        **description,
    }


def test_what_was_read_is_kept_in_the_same_shape() -> None:
    assert MachineDescription.from_json(DESCRIPTION).to_json() == complete(DESCRIPTION)


def test_what_a_rescue_machine_says_of_its_disks_is_kept() -> None:
    description = MachineDescription.from_json({"mode": "restore", "disks": [RESCUE_DISK]})
    assert description.is_rescue
    assert description.to_json()["disks"] == [{"controller": "", "is_boot": False, **RESCUE_DISK}]


def test_a_real_agent_stays_within_the_limits(
    agent: RunningAgent, rescue: RunningAgent, source: Core
) -> None:
    for running in (agent, rescue):
        paired = source.pair(running)
        description = running.client(source, paired).describe()
        assert len(description.disks) == 2
        assert description == paired.description
        assert MachineDescription.from_json(description.to_json()) == description


def test_what_an_older_agent_leaves_out_has_its_default() -> None:
    description = MachineDescription.from_json({})
    assert description == MachineDescription()
    assert not description.is_rescue
    assert not description.trusts("")


@pytest.mark.parametrize(
    ("disk", "holds"),
    [
        ({}, ""),
        ({"is_blank": True, "content": ""}, ""),
        ({"is_blank": False, "content": "ext-1"}, "ext-1"),
        ({"is_blank": False, "content": ""}, "data"),
    ],
)
def test_a_disk_says_what_it_holds(disk: dict[str, Any], holds: str) -> None:
    (described,) = MachineDescription.from_json({"disks": [{**DISK, **disk}]}).disks
    assert described.holds == holds


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (None, "the whole is missing"),
        ([], "the whole is"),
        ({"mode": "else"}, "mode is 'else', expected one of protect, restore"),
        ({"hostname": 7}, "hostname is 7"),
        ({"hostname": LONG}, "hostname is 'xxx"),
        ({"os": "a\0b"}, "os is 'a"),
        ({"os": "a\ud800b"}, "os is 'a"),
        ({"firmware": "coreboot"}, "firmware is 'coreboot', expected one of bios, efi"),
        ({"cpus": -1}, "cpus is -1, expected a number from 0 to"),
        ({"cpus": True}, "cpus is True"),
        ({"cpus": 1.5}, "cpus is 1.5"),
        ({"memory_bytes": 1 << 60}, "memory_bytes is"),
        ({"can_watch": 1}, "can_watch is 1, expected true or false"),
        ({"reads_settings_disk": "yes"}, "reads_settings_disk is 'yes', expected true or false"),
        ({"disks": "none"}, "disks is 'none', expected a list of at most 256"),
        ({"disks": [DISK] * (MAX_DISKS + 1)}, "disks is"),
        ({"disks": [DISK, 7]}, r"disks\[1\] is 7, expected an object"),
        ({"disks": [{**DISK, "number": -1}]}, r"disks\[0\]\.number is -1"),
        ({"disks": [{"number": 0, "key": "a"}]}, r"disks\[0\]\.capacity_bytes is missing"),
        (
            {"disks": [{**DISK, "capacity_bytes": MAX_CAPACITY_BYTES + 1}]},
            r"disks\[0\]\.capacity_bytes is",
        ),
        ({"disks": [{"number": 0, "capacity_bytes": 512}]}, r"disks\[0\]\.key is missing"),
        ({"disks": [{**DISK, "device": LONG}]}, r"disks\[0\]\.device is"),
        ({"disks": [{**DISK, "is_blank": "no"}]}, r"disks\[0\]\.is_blank is 'no'"),
        ({"disks": [{**DISK, "content": LONG}]}, r"disks\[0\]\.content is"),
        ({"disks": [DISK, {**DISK, "key": "other"}]}, "two of its disks have the same number"),
        ({"disks": [DISK, {**DISK, "number": 1}]}, "two of its disks have the same key"),
        ({"nics": [{"addresses": ["::1", 1]}]}, r"nics\[0\]\.addresses\[1\] is 1"),
        ({"nics": [{"mac": {}}]}, r"nics\[0\]\.mac is \{\}"),
        ({"initramfs_drivers": ["ahci", None]}, r"initramfs_drivers\[1\] is missing"),
        ({"initramfs_drivers": ["ahci"] * 20_000}, "initramfs_drivers is"),
        ({"trusted_cores": [{"name": "core"}]}, r"trusted_cores\[0\]\.fingerprint is missing"),
        ({"agent": "new"}, "agent is 'new', expected an object"),
        ({"agent": {"port": 65_536}}, r"agent\.port is 65536"),
    ],
)
def test_what_is_wrong_is_named(wrong: object, named: str) -> None:
    with pytest.raises(ProtocolBroken, match=f"Reading a machine's description: {named}"):
        MachineDescription.from_json(wrong)


def test_each_wrong_field_is_named() -> None:
    MachineDescription.from_json(example())
    found = list(wrong_descriptions())
    assert len(found) > 150
    for wrong in found:
        with pytest.raises(ProtocolBroken) as refused:
            MachineDescription.from_json(wrong.value)
        assert f"Reading a machine's description: {wrong.field} " in str(refused.value), wrong


def test_each_field_of_a_description_is_tried() -> None:
    tried = {re.sub(r"\[0\]", "", wrong.field) for wrong in wrong_descriptions()}
    assert set(example()) <= tried
    (disk,), (nic,), (core,) = (example()[name] for name in ("disks", "nics", "trusted_cores"))
    assert {f"disks.{name}" for name in disk} | {f"nics.{name}" for name in nic} <= tried
    assert {f"trusted_cores.{name}" for name in core} <= tried


@given(st.dictionaries(st.sampled_from(FIELDS), ANY_JSON))
def test_whatever_comes_is_read_or_refused(value: dict[str, Any]) -> None:
    try:
        description = MachineDescription.from_json(value)
    except ProtocolBroken:
        return
    assert MachineDescription.from_json(description.to_json()) == description
