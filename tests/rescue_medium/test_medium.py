"""The rescue medium boots, shows where it is, and its agent answers there."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.client import AgentClient, CoreCredentials, pair_with_agent
from agent.errors import AgentError
from agent.tls import ensure_identity
from lab.guest.machines import MIB, LabMachine
from lab.qemu import Drive, Forward, Guest, Hardware
from lab.rescue_machines import code_on_console
from lab.source_machines import AGENT_PORT, SourceMachine
from rescue_medium.medium import VOLUME_ID, ensure_medium
from tests.places.waiting import wait_until

ADDRESS = "127.0.1.21"
PORT = 33_006
BOOT_SECONDS = 240
# mov dx, 0x3f8; mov al, '#'; out dx, al; cli; hlt: a system that says one thing on ttyS0.
BOOT_SECTOR = bytes.fromhex("ba f8 03 b0 23 ee fa f4").ljust(510, b"\0") + b"\x55\xaa"


@pytest.fixture(scope="module")
def medium() -> Path:
    return ensure_medium()


@pytest.fixture
def credentials(tmp_path: Path) -> CoreCredentials:
    folder = tmp_path / "core"
    folder.mkdir()
    return CoreCredentials(*ensure_identity(folder, "core"))


@pytest.fixture
def machine(medium: Path, tmp_path: Path) -> Iterator[SourceMachine]:
    """A blank machine with a small and a large disk."""
    blank = LabMachine(
        "blank", ADDRESS, units=(), root_disk_bytes=64 * MIB, data_disk_bytes=3 * 1024 * MIB
    )
    machine = SourceMachine(blank, tmp_path / "machines", PORT)
    machine.make_blank(medium)
    yield machine
    machine.guest.kill()


def wait_for_code(guest: Guest) -> str:
    """Wait until the machine has an address and shows a code."""
    wait_until(
        lambda: code_on_console(guest.console_text()) is not None,
        "a code",
        BOOT_SECONDS,
        guest.console_text,
    )
    code = code_on_console(guest.console_text())
    assert code is not None
    return code


def test_the_medium_is_a_cd_and_a_stick_at_once(medium: Path) -> None:
    with medium.open("rb") as file:
        boot_sector = file.read(512)
        file.seek(32768)
        descriptor = file.read(2048)
    assert boot_sector[510:] == b"\x55\xaa"
    assert any(boot_sector[446:462]), "no partition, so no firmware takes it for a bootable stick"
    assert descriptor[1:6] == b"CD001"
    assert descriptor[40:72].decode().strip() == VOLUME_ID
    assert medium.stat().st_size < 64 * MIB


def test_it_is_built_once(medium: Path) -> None:
    before = medium.stat().st_mtime_ns
    assert ensure_medium() == medium
    assert medium.stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.guests
@pytest.mark.full
def test_a_blank_machine_waits_with_a_code_until_it_has_a_system(
    machine: SourceMachine, credentials: CoreCredentials
) -> None:
    machine.start()
    code = wait_for_code(machine.guest)
    paired = pair_with_agent(ADDRESS, PORT, code, credentials, "core")
    client = AgentClient(ADDRESS, PORT, credentials, paired.certificate_pem)
    description = client.describe()
    assert description.is_rescue
    assert [(disk.capacity_bytes, disk.is_blank) for disk in description.disks] == [
        (size, True) for size in machine.machine.disk_bytes
    ]
    assert description.nics[0].driver == "vmxnet3"

    # Power lost in mid-restore: a boot sector is on the disk, and not much of the rest.
    with (machine.folder / "disk0.raw").open("r+b") as disk:
        disk.write(BOOT_SECTOR)
    machine.guest.kill()
    assert machine.is_in_rescue
    machine.start()
    assert wait_for_code(machine.guest) != code
    with pytest.raises(AgentError):
        client.describe()

    # A restart from inside, as when a restore is complete: its own disk is first.
    before = len(machine.console_text())
    machine.guest.reset()
    wait_until(
        lambda: machine.console_text()[before:].endswith("#"),
        "the disk to be booted",
        60,
        machine.console_text,
    )

    # Without the medium it stays so.
    machine.leave_rescue()
    machine.guest.kill()
    machine.guest.console_log.unlink()
    machine.start()
    wait_until(lambda: machine.console_text() == "#", "the disk to be booted", 60)


@pytest.mark.slow
@pytest.mark.guests
@pytest.mark.full
def test_uefi_starts_it_from_a_stick_on_other_hardware(
    medium: Path, tmp_path: Path, credentials: CoreCredentials
) -> None:
    controllers = ("sata", "nvme", "virtio-scsi", "lsilogic", "lsilogicsas")
    drives = []
    for number, controller in enumerate(controllers):
        path = tmp_path / f"{controller}.raw"
        with path.open("wb") as disk:
            disk.truncate((16 + number) * MIB)
        drives.append(Drive(path, "raw", controller, 0))
    # The medium is one more disk, and is not offered for restoring.
    stick = tmp_path / "stick.raw"
    subprocess.run(["cp", "--sparse=always", medium, stick], check=True)
    drives.append(Drive(stick, "raw", "sata", 1))
    hardware = Hardware(1, 512 * MIB, tuple(drives), (("e1000", None),), firmware="efi")
    guest = Guest(tmp_path / "other", "other")
    guest.start(hardware, (Forward(ADDRESS, PORT, AGENT_PORT),))
    try:
        code = wait_for_code(guest)
        paired = pair_with_agent(ADDRESS, PORT, code, credentials, "core")
        client = AgentClient(ADDRESS, PORT, credentials, paired.certificate_pem)
        assert client.describe().firmware == "efi"

        def capacities() -> set[int]:
            return {disk.capacity_bytes for disk in client.describe().disks}

        # A controller may find its disks later than others.
        expected = {(16 + number) * MIB for number in range(len(controllers))}
        wait_until(
            lambda: capacities() >= expected, "all disks", 60, lambda: str(sorted(capacities()))
        )
        assert capacities() == expected
        assert client.describe().nics[0].driver == "e1000"
    finally:
        guest.kill()


@pytest.mark.slow
@pytest.mark.guests
@pytest.mark.full
def test_uefi_starts_it_from_a_cd_while_the_disk_is_blank(medium: Path, tmp_path: Path) -> None:
    path = tmp_path / "disk0.raw"
    with path.open("wb") as disk:
        disk.truncate(64 * MIB)
    hardware = Hardware(
        cpus=1,
        memory_bytes=512 * MIB,
        drives=(Drive(path, "raw", "pvscsi", 0),),
        nics=(("vmxnet3", None),),
        firmware="efi",
        boot_medium=medium,
    )
    guest = Guest(tmp_path / "blank", "blank")
    guest.start(hardware, ())
    try:
        wait_for_code(guest)
    finally:
        guest.kill()
