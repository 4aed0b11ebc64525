"""agent.json: what is wrong in it is named."""

import json
from pathlib import Path

import pytest

from agent.configuration import RESCUE_STATE_FOLDER, Configuration, read_configuration
from agent.errors import ConfigurationWrong


def test_what_is_not_set_has_its_default(tmp_path: Path) -> None:
    path = tmp_path / "agent.json"
    path.write_text("{}")

    assert read_configuration(path) == Configuration()


def test_what_is_set_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "agent.json"
    entries = {
        "address": "::",
        "port": 0,
        "pairing_code": None,
        "provider": "device_mapper",
        "left_out_disks": ["sdc"],
        "cow_bytes": 2**30,
        "freeze_limit_seconds": 5,
    }
    path.write_text(json.dumps(entries))

    assert read_configuration(path) == Configuration(
        address="::",
        port=0,
        provider="device_mapper",
        left_out_disks=("sdc",),
        cow_bytes=2**30,
        freeze_limit_seconds=5,
    )


def test_a_rescue_machine_keeps_its_state_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "agent.json"
    path.write_text('{"mode": "restore"}')

    assert read_configuration(path).state_folder == RESCUE_STATE_FOLDER


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ({"prot": 8006}, "prot"),
        ({"port": "8006"}, "port"),
        ({"port": True}, "port"),
        ({"port": 70000}, "port"),
        ({"provider": "lvm2"}, "provider"),
        ({"provider": "file"}, "disks"),
        ({"disks": [{"key": "a"}]}, "disk needs"),
        ({"cow_bytes": 10}, "cow_bytes"),
        ({"left_out_disks": "sdb"}, "left_out_disks"),
        ({"freeze_limit_seconds": 0}, "freeze_limit_seconds"),
    ],
)
def test_a_wrong_entry_is_named(entries: dict[str, object], named: str, tmp_path: Path) -> None:
    path = tmp_path / "agent.json"
    path.write_text(json.dumps(entries))

    with pytest.raises(ConfigurationWrong, match=named):
        read_configuration(path)


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_file_that_is_no_object_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "agent.json"
    path.write_text(text)

    with pytest.raises(ConfigurationWrong, match=r"agent\.json"):
        read_configuration(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationWrong, match=r"agent\.json"):
        read_configuration(tmp_path / "agent.json")
