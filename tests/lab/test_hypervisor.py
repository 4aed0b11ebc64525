"""What is powered on in the simulated vCenter really runs, from power on to removal."""

import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vsphere
from lab.guest.image import ensure_images
from lab.places import ROOT
from lab.processes import OwnProcess
from lab.qemu import Drive, Guest, GuestFailed, Hardware
from lab.vcsim.process import Vcsim, running_vcsim, start_vcsim
from recovery_store.vmdk.imaging import MeasuredWrite, stream_disk
from recovery_store.vmdk.writer import StreamWriter
from rescue_medium.medium import ensure_medium
from tests.places.vcsim import credentials_of
from tests.places.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.guests]
MARKER = "test-of-the-hypervisor"
BOOT_SECONDS = 400


class HypervisorProcess:
    """The hypervisor as the lab runs it: a process that can be killed and started again."""

    def __init__(self, vcsim: Vcsim, folder: Path, agent_port: int) -> None:
        self.machines = folder / "machines"
        self.log = folder / "hypervisor.log"
        password_file = folder / "password"
        password_file.write_text(vcsim.password)
        self._command = [
            *(sys.executable, "-m", "lab.hypervisor", "--port", str(vcsim.port)),
            *("--user", vcsim.username, "--password-file", str(password_file)),
            *("--ca", str(vcsim.certificate_path)),
            *("--state", str(vcsim.uploads.parent / "state.json")),
            *("--uploads", str(vcsim.uploads), "--machines", str(self.machines)),
            *("--agent-port", str(agent_port)),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=ROOT)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def guests(self) -> list[Guest]:
        return [Guest(folder, folder.name) for folder in sorted(self.machines.glob("*/"))]

    def tail(self) -> str:
        consoles = [guest.console_text() for guest in self.guests()]
        return "\n".join(text[-3000:] for text in (self.log.read_text(), *consoles))


@pytest.fixture(scope="module")
def vcsim() -> Iterator[Vcsim]:
    with running_vcsim(machines=2) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def agent_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.2.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def hypervisor(
    vcsim: Vcsim, agent_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HypervisorProcess]:
    process = HypervisorProcess(vcsim, tmp_path_factory.mktemp("hypervisor"), agent_port)
    process.start()
    yield process
    process.kill()
    for guest in process.guests():
        guest.kill()


@pytest.fixture
def session(vcsim: Vcsim) -> Iterator[vsphere.Session]:
    with vsphere.connect(credentials_of(vcsim)) as session:
        yield session


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The disk of a real machine, as the stream that an export would upload."""
    path = tmp_path_factory.mktemp("stream") / "disk-0.vmdk"
    write_stream(ensure_images()["web-01"].disks[0], path)
    return path


def write_stream(disk: Path, path: Path) -> None:
    with disk.open("rb") as source, path.open("wb") as target:
        capacity_bytes = disk.stat().st_size
        writer = StreamWriter(MeasuredWrite(target.write), capacity_bytes, cid="12345678")
        stream_disk(source.fileno(), capacity_bytes, writer, lambda *_: None)
        writer.finish()


def read_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk


def import_machine(
    session: vsphere.Session,
    name: str,
    stream: Path,
    capacity_bytes: int,
    firmware: str = "bios",
    controller: str = "pvscsi",
) -> str:
    inventory = session.inventory()
    network = next(network for network in inventory.networks if not network.is_uplink)
    return session.import_vm(
        vsphere.VmSpec(
            name,
            guest_id="debian10_64Guest",
            firmware=firmware,
            cpus=1,
            memory_bytes=512 << 20,
            disks=[vsphere.VmDisk(0, capacity_bytes, controller)],
            nics=[vsphere.VmNic(network.moid)],
        ),
        [vsphere.DiskUpload(0, stream.stat().st_size, lambda: read_chunks(stream))],
        vsphere.Placement(
            datacenter=inventory.datacenters[0].moid,
            resource_pool=inventory.resource_pools[0].moid,
            datastore=inventory.datastores[0].moid,
            network=network.moid,
        ),
        MARKER,
        lambda *_: None,
        lambda: None,
    )


@pytest.mark.full
def test_a_machine_lives_from_power_on_to_removal(
    session: vsphere.Session, hypervisor: HypervisorProcess, agent_port: int, stream: Path
) -> None:
    capacity_bytes = ensure_images()["web-01"].disks[0].stat().st_size
    moid = import_machine(session, "web-01", stream, capacity_bytes)
    vm = session.get_vm(moid)

    def is_up(left_boot_id: str | None = None) -> bool:
        vm.refresh()
        guest = vm.guest()
        return bool(
            guest.tools_running
            and guest.address
            and guest.boot_id
            and guest.boot_id != left_boot_id
        )

    # It boots, and vCenter tells where it is.
    vm.power_on()
    wait_until(is_up, "the guest to be up", BOOT_SECONDS, hypervisor.tail)
    guest = vm.guest()
    assert guest.hostname == "web-01"
    assert guest.address == "127.0.2.1"
    (qemu,) = hypervisor.guests()
    process = qemu.process
    assert process is not None

    # The hypervisor's own death ends nothing; a new one finds the machine running.
    hypervisor.kill()
    assert process.is_running
    hypervisor.start()
    wait_until(lambda: "found vm=web-01" in hypervisor.log.read_text(), "the new hypervisor", 60)
    assert process.is_running

    # The agent inside answers at the address.
    wait_until(lambda: answers(guest.address or "", agent_port), "the agent", 120, hypervisor.tail)

    # A reboot of the guest is one: the same machine, another boot.
    wait_until(is_up, "the guest to be seen again", 60, hypervisor.tail)
    assert vm.reboot_guest() == "guest"
    wait_until(lambda: is_up(guest.boot_id), "the reboot", BOOT_SECONDS, hypervisor.tail)
    assert process.is_running
    assert "it is reset" not in hypervisor.log.read_text()

    # Off is off, and removed leaves nothing.
    vm.power_off()
    wait_until(lambda: not process.is_running, "the power to be off", 60, hypervisor.tail)
    vm.refresh()
    assert not vm.guest().tools_running
    vm.destroy(expected_marker=MARKER)
    wait_until(lambda: not hypervisor.guests(), "the files to be gone", 60, hypervisor.tail)
    assert hypervisor.process is not None
    assert hypervisor.process.poll() is None


@pytest.mark.full
def test_a_machine_survives_a_simulator_that_forgets_it(
    session: vsphere.Session, vcsim: Vcsim, hypervisor: HypervisorProcess, stream: Path
) -> None:
    capacity_bytes = ensure_images()["web-01"].disks[0].stat().st_size
    moid = import_machine(session, "kept", stream, capacity_bytes)
    session.get_vm(moid).power_on()
    wait_until(lambda: any(guest.is_running for guest in hypervisor.guests()), "it to run", 60)
    (qemu,) = hypervisor.guests()
    process = qemu.process
    assert process is not None

    vcsim.stop()
    certificate = (vcsim.certificate_path, vcsim.certificate_path.with_name("key.pem"))
    anew = start_vcsim(
        vcsim.uploads.parent, port=vcsim.port, password=vcsim.password, certificate=certificate
    )
    vcsim.process = anew.process
    with vsphere.connect(credentials_of(vcsim)) as second:

        def is_back() -> bool:
            vm = second.find_vm(MARKER)
            return vm is not None and vm.power_state == "poweredOn"

        wait_until(is_back, "the machine to be known again", 120, hypervisor.tail)
        assert process.is_running
        vm = second.find_vm(MARKER)
        assert vm is not None
        assert vm.name == "kept"
        vm.power_off()
        wait_until(lambda: not process.is_running, "the power to be off", 60, hypervisor.tail)
        vm.destroy(expected_marker=MARKER)
        wait_until(lambda: not hypervisor.guests(), "the files to be gone", 60, hypervisor.tail)


@pytest.mark.full
def test_a_machine_that_starts_by_efi_does_so_here(
    session: vsphere.Session, hypervisor: HypervisorProcess, tmp_path: Path
) -> None:
    medium = ensure_medium()  # as a disk, the smallest one at hand that EFI can start
    write_stream(medium, tmp_path / "disk.vmdk")
    capacity_bytes = medium.stat().st_size
    moid = import_machine(session, "efi", tmp_path / "disk.vmdk", capacity_bytes, "efi", "sata")
    vm = session.get_vm(moid)
    vm.power_on()
    wait_until(lambda: any(guest.is_running for guest in hypervisor.guests()), "it to run", 60)
    (qemu,) = hypervisor.guests()
    qemu.wait_for_console("understudy-rescue address", BOOT_SECONDS)
    assert "UEFI" in qemu.console_text()
    vm.power_off()
    wait_until(lambda: not qemu.is_running, "the power to be off", 60, hypervisor.tail)
    vm.destroy(expected_marker=MARKER)
    wait_until(lambda: not hypervisor.guests(), "the files to be gone", 60, hypervisor.tail)


def test_a_disk_that_the_lab_s_efi_would_not_find_is_refused(tmp_path: Path) -> None:
    drives = (Drive(tmp_path / "disk.raw", "raw", "pvscsi", 0),)
    with pytest.raises(GuestFailed, match="not on pvscsi"):
        Guest(tmp_path / "efi", "efi").start(Hardware(1, 512 << 20, drives, (), "efi"), ())


def test_a_machine_that_cannot_start_is_off_and_says_why(
    session: vsphere.Session, vcsim: Vcsim, hypervisor: HypervisorProcess, stream: Path
) -> None:
    capacity_bytes = ensure_images()["web-01"].disks[0].stat().st_size
    moid = import_machine(session, "damaged", stream, capacity_bytes)
    vcsim.disk_path(moid, 0).write_bytes(b"no disk at all")
    vm = session.get_vm(moid)
    vm.power_on()
    wait_until(
        lambda: session.get_vm(moid).power_state == "poweredOff",
        "it to be off again",
        60,
        hypervisor.tail,
    )
    assert "cannot run vm=damaged" in hypervisor.log.read_text()
    vm.destroy(expected_marker=MARKER)
    wait_until(lambda: not hypervisor.guests(), "the files to be gone", 60, hypervisor.tail)
    assert hypervisor.process is not None
    assert OwnProcess.of(hypervisor.process.pid).is_running


def answers(address: str, port: int) -> bool:
    """Tell whether a TLS server is behind a forwarded port, which takes any connection itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((address, port), timeout=10) as connection,
            context.wrap_socket(connection),
        ):
            return True
    except OSError:
        return False
