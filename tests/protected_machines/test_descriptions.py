"""Descriptions kept in rows and manifests: what is wrong in one is left out of it."""

from typing import Any

import pytest

from agent.client.description import MachineDescription
from protected_machines.models.descriptions import read_description
from tests.factories import DESCRIPTION

DISK = DESCRIPTION["disks"][0]


def test_a_right_description_is_read_whole() -> None:
    assert read_description(DESCRIPTION) == MachineDescription.from_json(DESCRIPTION)


@pytest.mark.parametrize("value", [None, [], "web-01", 7])
def test_what_is_no_description_is_an_empty_one(value: object) -> None:
    assert read_description(value) == MachineDescription()


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"cpus": "two"}, {"cpus": 0}),
        ({"firmware": 7}, {"firmware": ""}),
        ({"nics": "none"}, {"nics": []}),
        ({"initramfs_drivers": ["ahci", 7]}, {"initramfs_drivers": ["ahci"]}),
        ({"disks": [{**DISK, "capacity_bytes": -1}, DISK]}, {"disks": [DISK]}),
        ({"disks": [DISK, DISK]}, {"disks": []}),
        ({"trusted_cores": [{"name": "DR site"}]}, {"trusted_cores": []}),
        ({"agent": None, "disks": 7}, {"agent": {}, "disks": []}),
    ],
)
def test_a_wrong_part_is_left_out_and_the_rest_is_read(
    wrong: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = read_description({**DESCRIPTION, **wrong})
    assert found == MachineDescription.from_json({**DESCRIPTION, **expected})
