"""A settings disk is believed if a core vouches for it that may; any other changes nothing."""

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.delegation import delegation_name
from agent.disks import find_disks
from agent.home import Home
from agent.settings import (
    MAX_CORES,
    MAX_DELEGATIONS,
    SettingsRefused,
    homes_on_settings_disks,
    read_settings,
)
from agent.settings_disk import (
    MAX_DOCUMENT_BYTES,
    SETTINGS_DISK_BYTES,
    has_label,
    make_settings_disk,
    split_settings_disk,
)
from agent.state import AgentState
from agent.tls import ensure_identity, fingerprint_of
from console.identity import CoreIdentity
from protected_machines.agents.delegation import issue_delegation
from protected_machines.agents.settings_disk import signed_settings
from tests.agent.made_up_machine import MadeUpMachine
from tests.places.agent import Core, make_core

MACHINE_ID = "6d6f0a4e-2b53-4a5e-9d0b-6a6c1c1f3f77"


def identity_of(core: Core) -> CoreIdentity:
    path, key_path = core.credentials.certificate_path, core.credentials.key_path
    return CoreIdentity("", core.name, path, key_path, path.read_text(), "")


@dataclass
class Scene:
    """An agent that trusts the core `source`, and the core `target`, which it does not know."""

    state: AgentState
    fingerprint: str
    source: Core
    target: Core

    @property
    def home(self) -> Home:
        return Home("192.0.2.9", 8001, self.target.certificate_pem, MACHINE_ID)

    def delegation(self, by: Core | None = None, number: int = 1, agent: str = "") -> str:
        name = delegation_name(agent or self.fingerprint, number)
        issuer = identity_of(by or self.source)
        return issue_delegation(issuer, self.target.certificate_pem, "DR site", name)

    def disk(self, by: Core, *delegations: str) -> bytes:
        return signed_settings(identity_of(by), self.fingerprint, [self.home], delegations)

    def homes(self, disk: bytes) -> tuple[Home, ...]:
        return read_settings(disk, self.state, self.fingerprint).homes


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("settings")
    state = AgentState(folder / "state")
    certificate, _ = ensure_identity(state.folder, "web-01")
    source, target = make_core(folder / "source", "source"), make_core(folder / "target", "target")
    state.ensure_trusted_core("Headquarters", source.certificate_pem)
    return Scene(state, fingerprint_of(certificate.read_text()), source, target)


def test_a_disk_of_a_trusted_core_is_believed(scene: Scene) -> None:
    assert scene.homes(scene.disk(scene.source)) == (scene.home,)


def test_a_disk_of_a_core_that_a_trusted_one_delegated_the_machine_to_is_believed(
    scene: Scene,
) -> None:
    assert scene.homes(scene.disk(scene.target, scene.delegation())) == (scene.home,)


def test_one_of_several_delegations_suffices(scene: Scene, tmp_path: Path) -> None:
    stranger = make_core(tmp_path, "stranger")
    others = (scene.delegation(stranger), "nonsense", scene.delegation(agent="ab" * 32))
    assert scene.homes(scene.disk(scene.target, *others, scene.delegation())) == (scene.home,)


def test_a_disk_that_nobody_vouches_for_is_ignored(scene: Scene, tmp_path: Path) -> None:
    stranger = make_core(tmp_path, "stranger")
    second_hand = issue_delegation(
        identity_of(scene.target),
        stranger.certificate_pem,
        "",
        delegation_name(scene.fingerprint, 1),
    )
    for disk in (
        scene.disk(scene.target),
        scene.disk(stranger),
        scene.disk(scene.target, scene.delegation(stranger)),
        scene.disk(scene.target, scene.delegation(agent="ab" * 32)),
        scene.disk(scene.target, scene.source.certificate_pem),
        scene.disk(scene.target, "nonsense", ""),
        scene.disk(stranger, scene.delegation()),
        scene.disk(stranger, second_hand + scene.delegation()),
        scene.disk(stranger, second_hand, scene.delegation()),
    ):
        with pytest.raises(SettingsRefused, match="signed neither by"):
            scene.homes(disk)


def test_a_delegation_that_was_withdrawn_vouches_for_nothing(scene: Scene, tmp_path: Path) -> None:
    state = AgentState(tmp_path)
    source = state.ensure_trusted_core("Headquarters", scene.source.certificate_pem)
    state.withdraw_delegations(source.fingerprint, 2)
    there = replace(scene, state=state)
    with pytest.raises(SettingsRefused, match="signed neither by"):
        there.homes(scene.disk(scene.target, scene.delegation()))
    assert there.homes(scene.disk(scene.target, scene.delegation(number=2))) == (scene.home,)


def test_a_disk_for_another_machine_is_ignored(scene: Scene) -> None:
    disk = signed_settings(identity_of(scene.source), "ab" * 32, [scene.home], [])
    with pytest.raises(SettingsRefused, match="for another machine"):
        scene.homes(disk)


def test_a_disk_that_was_changed_after_it_was_signed_is_ignored(scene: Scene) -> None:
    disk = scene.disk(scene.source)
    changed = disk.replace(b"192.0.2.9", b"192.0.2.8")
    assert changed != disk
    with pytest.raises(SettingsRefused, match="signed neither by"):
        scene.homes(changed)


def document(scene: Scene, **changes: Any) -> bytes:
    core = {"certificate_pem": scene.target.certificate_pem, "host": "192.0.2.9", "port": 8001}
    whole = {
        "machine_id": MACHINE_ID,
        "agent_fingerprint": scene.fingerprint,
        "cores": [core],
        "delegations": [],
    }
    return json.dumps({**whole, **changes}).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"machine_id": "web-01"},
        {"machine_id": None},
        {"agent_fingerprint": 7},
        {"cores": {}},
        {"cores": ["192.0.2.9"]},
        {"cores": [{"host": "192.0.2.9", "port": 8001}]},
        {"cores": [{"certificate_pem": "pem", "host": "192.0.2.9", "port": 8001}]},
        {"cores": [{}] * (MAX_CORES + 1)},
        {"delegations": [7]},
        {"delegations": [""] * (MAX_DELEGATIONS + 1)},
        {"delegations": None},
    ],
    ids=str,
)
def test_a_malformed_document_is_ignored_before_any_signature_is_looked_at(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SettingsRefused, match="cannot be read"):
        scene.homes(make_settings_disk(document(scene, **changes), b""))


@pytest.mark.parametrize("host", ["", "a b", "h" * 254, None, 7])
def test_a_core_without_an_address_is_ignored(scene: Scene, host: object) -> None:
    core = {"certificate_pem": scene.target.certificate_pem, "host": host, "port": 8001}
    with pytest.raises(SettingsRefused, match="cannot be read"):
        scene.homes(make_settings_disk(document(scene, cores=[core]), b""))


@given(content=st.binary(max_size=600))
def test_any_bytes_behind_the_label_change_nothing(scene: Scene, content: bytes) -> None:
    disk = make_settings_disk(b"", b"")[:32] + content
    with pytest.raises(SettingsRefused):
        scene.homes(disk)


def test_deeply_nested_json_is_ignored(scene: Scene) -> None:
    with pytest.raises(SettingsRefused, match="cannot be read"):
        scene.homes(make_settings_disk(b"[" * 100_000, b""))


def test_what_does_not_fit_is_refused_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        make_settings_disk(bytes(MAX_DOCUMENT_BYTES + 1), b"")


def test_a_disk_holds_its_document_and_nothing_that_linux_would_recognize(scene: Scene) -> None:
    disk = scene.disk(scene.source)
    assert len(disk) == SETTINGS_DISK_BYTES
    assert has_label(disk[:512])
    assert disk[510:512] == b"\0\0"  # no partition table
    text, signature = split_settings_disk(disk)
    assert json.loads(text)["machine_id"] == MACHINE_ID
    assert signature


@pytest.fixture
def machine(tmp_path: Path) -> MadeUpMachine:
    """A machine with a disk of its own."""
    made = MadeUpMachine(tmp_path / "sys")
    made.add_disk("sda", target=0, sectors=4096)
    (tmp_path / "dev").mkdir()
    return made


def attach(machine: MadeUpMachine, name: str, content: bytes, sectors: int = 2048) -> Path:
    """Attach a disk with that content; return its device."""
    machine.add_disk(name, target=len(name) + ord(name[-1]), sectors=sectors)
    device = machine.root.parent / "dev" / name
    device.write_bytes(content)
    return device


def homes_on(machine: MadeUpMachine, scene: Scene) -> list[Home]:
    return homes_on_settings_disks(scene.state, machine.root, machine.root.parent / "dev")


def disks_of(machine: MadeUpMachine) -> list[str]:
    found = find_disks(sys_root=machine.root, dev_root=machine.root.parent / "dev")
    return [disk.name for disk in found]


def test_the_disk_is_found_by_its_label_and_is_none_of_the_machine_s_own(
    machine: MadeUpMachine, scene: Scene
) -> None:
    attach(machine, "sdb", scene.disk(scene.source))
    assert homes_on(machine, scene) == [scene.home]
    assert disks_of(machine) == ["sda"]


def test_a_disk_that_is_not_believed_is_logged_and_no_disk_of_the_machine_either(
    machine: MadeUpMachine, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    attach(machine, "sdb", scene.disk(scene.target))
    with caplog.at_level(logging.WARNING):
        assert homes_on(machine, scene) == []
    assert "settings disk ignored" in caplog.text
    assert disks_of(machine) == ["sda"]


@pytest.mark.parametrize("change", ["size", "label"])
def test_a_disk_of_another_size_or_without_the_label_is_the_machine_s_own(
    machine: MadeUpMachine, scene: Scene, change: str
) -> None:
    content = scene.disk(scene.source)
    if change == "label":
        content = b"understudy" + content[10:]
    attach(machine, "sdb", content, 2049 if change == "size" else 2048)
    assert homes_on(machine, scene) == []
    assert disks_of(machine) == ["sda", "sdb"]


def test_a_disk_that_cannot_be_read_is_the_machine_s_own(
    machine: MadeUpMachine, scene: Scene
) -> None:
    attach(machine, "sdb", b"").unlink()
    assert homes_on(machine, scene) == []
    assert disks_of(machine) == ["sda", "sdb"]


def test_an_agent_that_no_core_knows_believes_nothing(
    machine: MadeUpMachine, scene: Scene, tmp_path: Path
) -> None:
    attach(machine, "sdb", scene.disk(scene.source))
    assert homes_on(machine, replace(scene, state=AgentState(tmp_path / "new"))) == []


def test_the_initramfs_knows_the_same_label(tmp_path: Path) -> None:
    script = Path("agent/install/root/etc/initramfs-tools/scripts/local-top/understudy")
    assert 'bs=24 count=1 2>/dev/null)" = "Understudy settings disk"' in script.read_text()
    assert make_settings_disk(b"", b"")[:24] == b"Understudy settings disk"
    assert f'/size")" = {SETTINGS_DISK_BYTES // 512} ]' in script.read_text()
