"""The simulator is as strict as ESXi, and nothing ends it."""

import contextlib
import dataclasses
import http.client
import ssl
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from lab.vcsim.process import Vcsim
from recovery_store.vmdk.deflate import deflate
from recovery_store.vmdk.writer import StreamWriter
from tests.vsphere.conftest import credentials_of
from tests.vsphere.disks import GRAIN_BYTES, MIB, disk_of, make_stream
from tests.vsphere.site import MARKER, STREAM, World
from vsphere import connect
from vsphere.api import vim, vmodl
from vsphere.placement import network_backing
from vsphere.spec import build_config
from vsphere.upload import MEDIA_TYPE


@dataclasses.dataclass
class Lease:
    """An import opened by hand, to be misused."""

    world: World
    managed: Any

    @property
    def state(self) -> str:
        return str(self.managed.state)

    def wait(self) -> str:
        deadline = time.monotonic() + 10
        while self.state == "initializing" and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.state

    def url(self, number: int = 0) -> Any:
        return urlsplit(self.managed.info.deviceUrl[number].url)

    def post(
        self,
        body: Any = STREAM,
        *,
        method: str = "POST",
        media_type: str = MEDIA_TYPE,
        chunked: bool = False,
        number: int = 0,
        path: str | None = None,
    ) -> tuple[int, str]:
        """Send a body; return status and text of the answer."""
        vcsim = self.world.vcsim
        context = ssl.create_default_context(cafile=str(vcsim.certificate_path))
        connection = http.client.HTTPSConnection(
            vcsim.host, vcsim.port, context=context, timeout=30
        )
        try:
            connection.request(
                method,
                path or self.url(number).path,
                body=iter([body]) if chunked else body,
                headers={"Content-Type": media_type},
                encode_chunked=chunked,
            )
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (BrokenPipeError, ConnectionResetError):
            return 0, "connection closed"
        finally:
            connection.close()


def open_lease(world: World, change: Callable[[Any], None] | None = None, **changes: Any) -> Lease:
    spec = world.spec(**changes)
    content = world.session.content
    config = build_config(
        spec,
        datastore_name=world.datastore.name,
        nic_backings=[network_backing(content, nic.network, "Test") for nic in spec.nics],
        marker=MARKER,
        hardware_version="vmx-14",
        guest_id=spec.guest_id,
    )
    if change:
        change(config)
    pool = vim.ResourcePool(world.placement.resource_pool, world.session.stub)
    folder = vim.Folder(world.inventory.datacenters[0].folder, world.session.stub)
    managed = pool.ImportVApp(spec=vim.vm.VmImportSpec(configSpec=config), folder=folder)
    return Lease(world, managed)


@pytest.fixture
def lease(world: World) -> Iterator[Lease]:
    """An open lease on a machine with two disks."""
    one = open_lease(world, disks=[disk_of(0), disk_of(1)])
    assert one.wait() == "ready"
    yield one
    with contextlib.suppress(vmodl.MethodFault):
        one.managed.HttpNfcLeaseAbort()
    assert world.uploaded() == [] or world.machine_names() != []


# How an upload has to come.


def test_a_chunked_upload_is_refused_for_its_missing_length(lease: Lease) -> None:
    assert lease.post(chunked=True)[0] == 411
    assert lease.state == "ready"


@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE", "HEAD"])
def test_only_post_takes_a_disk(lease: Lease, method: str) -> None:
    assert lease.post(method=method)[0] == 405


@pytest.mark.parametrize("media_type", ["application/octet-stream", "", "text/plain"])
def test_only_the_disk_media_type_is_taken(lease: Lease, media_type: str) -> None:
    assert lease.post(media_type=media_type)[0] == 415


@pytest.mark.parametrize("path", ["/nfc/none/disk-0.vmdk", "/nfc/", "/nfc/a/b/c", "/", "/sdk/x"])
def test_unknown_addresses_are_not_found(lease: Lease, path: str) -> None:
    assert lease.post(path=path)[0] == 404


def test_an_unknown_disk_is_not_found(lease: Lease) -> None:
    assert lease.post(path=lease.url().path.replace("disk-0", "disk-9"))[0] == 404


def test_a_disk_is_taken_once(lease: Lease) -> None:
    assert lease.post()[0] == 201
    assert lease.post()[0] == 409


# What a stream has to be.


def changed(offset: int, data: bytes, stream: bytes = STREAM) -> bytes:
    return stream[:offset] + data + stream[offset + len(data) :]


def footer(offset: int, data: bytes) -> bytes:
    """Return the stream with the same change in header and footer."""
    return changed(len(STREAM) - 1024 + offset, data, changed(offset, data))


def with_parent() -> bytes:
    parts: list[bytes] = []
    writer = StreamWriter(parts.append, 64 * MIB, cid="00000001", parent_cid="00000002")
    writer.grain(3, deflate(bytes(GRAIN_BYTES)))
    writer.finish()
    return b"".join(parts)


def descending() -> bytes:
    """Return a stream in which two neighbours have changed places."""
    stream = make_stream(grains=1024)
    five, six = struct.pack("<Q", 128 * 5), struct.pack("<Q", 128 * 6)
    first, second = stream.index(five, 1 << 16), stream.index(six, 1 << 16)
    return changed(first, six, changed(second, five, stream))


BAD_STREAMS = {
    "no vmdk": (b"x" * 4096, "magic"),
    "empty grain area": (STREAM[:4096], "footer"),
    "version 1": (footer(4, struct.pack("<I", 1)), "version 1"),
    "zero-grain flag": (footer(8, struct.pack("<I", 0x30005)), "bit 2"),
    "no markers": (footer(8, struct.pack("<I", 0x10001)), "flags"),
    "grains of 64 sectors": (footer(20, struct.pack("<Q", 64)), "grains of 64"),
    "no deflate": (footer(77, struct.pack("<H", 0)), "compression"),
    "newlines changed": (footer(73, b"\n\r\r\n"), "newline"),
    "directory in front": (changed(56, struct.pack("<Q", 21)), "directory"),
    "another capacity": (footer(12, struct.pack("<Q", 256)), "extent"),
    "a parent": (with_parent(), "bit 2|parent"),
    "footer unlike header": (changed(len(STREAM) - 1024 + 64, b"\0" * 8), "footer"),
    "no end of stream": (STREAM[:-512], "without footer"),
    "bytes after the end": (STREAM + bytes(512), "after the end"),
    "something at the end": (changed(len(STREAM) - 512, b"\1"), "end-of-stream"),
    "descending grains": (descending(), "not ascending|table"),
}


@pytest.mark.parametrize("name", BAD_STREAMS)
def test_a_stream_that_the_technical_note_does_not_allow_fails_the_lease(
    lease: Lease, name: str
) -> None:
    body, said = BAD_STREAMS[name]
    status, text = lease.post(body)
    assert status == 400
    assert any(part in text for part in said.split("|")), text
    assert lease.state == "error"
    assert lease.world.machine_names() == []


def test_no_flipped_bit_in_the_tables_passes(lease: Lease) -> None:
    tail = len(STREAM) - 4 * 512  # the directory's sector, of which one entry is in use
    status, text = lease.post(changed(tail, bytes([STREAM[tail] ^ 1])))
    assert status == 400
    assert "directory" in text


def test_qemu_img_s_own_stream_is_refused(lease: Lease, tmp_path: Path) -> None:
    raw, made = tmp_path / "disk.raw", tmp_path / "disk.vmdk"
    with raw.open("wb") as file:
        file.write(b"data" * 100_000)
        file.truncate(64 * MIB)
    command = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk"]
    options = ["-o", "subformat=streamOptimized", str(raw), str(made)]
    subprocess.run([*command, *options], check=True, timeout=60)
    assert lease.post(made.read_bytes())[0] == 400
    assert lease.state == "error"


def test_an_empty_disk_is_a_good_stream(lease: Lease) -> None:
    assert lease.post(make_stream(grains=0))[0] == 201


@pytest.mark.parametrize("capacity_bytes", [512, GRAIN_BYTES + 512, 32 * MIB, 33 * MIB, 1 << 40])
def test_capacities_of_every_kind_are_good_streams(lease: Lease, capacity_bytes: int) -> None:
    assert lease.post(make_stream(capacity_bytes, grains=3))[0] == 201


# What a lease does.


def test_complete_needs_every_disk(lease: Lease) -> None:
    lease.post()
    with pytest.raises(vim.fault.InvalidState, match="disk-1"):
        lease.managed.HttpNfcLeaseComplete()
    lease.post(number=1)
    lease.managed.HttpNfcLeaseComplete()
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        lease.managed.HttpNfcLeaseComplete()


def test_the_manifest_tells_what_was_received(lease: Lease) -> None:
    import hashlib

    assert lease.managed.HttpNfcLeaseGetManifest() == []
    lease.post()
    (entry,) = lease.managed.HttpNfcLeaseGetManifest()
    assert entry.key == lease.managed.info.deviceUrl[0].key
    assert (entry.size, entry.sha1) == (len(STREAM), hashlib.sha1(STREAM).hexdigest())
    assert (entry.disk, entry.capacity, entry.populatedSize) == (True, 64 * MIB, 40 * GRAIN_BYTES)


def test_the_manifest_can_be_sha256(lease: Lease) -> None:
    import hashlib

    key = lease.managed.info.deviceUrl[0].key
    lease.managed.HttpNfcLeaseSetManifestChecksumType([vim.KeyValue(key=key, value="sha256")])
    lease.post()
    (entry,) = lease.managed.HttpNfcLeaseGetManifest()
    assert (entry.checksumType, entry.checksum) == ("sha256", hashlib.sha256(STREAM).hexdigest())


def test_abort_removes_machine_and_files(lease: Lease) -> None:
    lease.post()
    lease.managed.HttpNfcLeaseAbort()
    assert lease.world.machine_names() == []
    assert lease.world.uploaded() == []


def test_a_cut_upload_fails_the_lease(lease: Lease) -> None:
    vcsim = lease.world.vcsim
    context = ssl.create_default_context(cafile=str(vcsim.certificate_path))
    connection = http.client.HTTPSConnection(vcsim.host, vcsim.port, context=context, timeout=30)
    connection.putrequest("POST", lease.url().path)
    connection.putheader("Content-Type", MEDIA_TYPE)
    connection.putheader("Content-Length", str(len(STREAM)))
    connection.endheaders()
    connection.send(STREAM[:-10])
    connection.close()
    deadline = time.monotonic() + 10
    while lease.state == "ready" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert lease.state == "error"
    assert lease.world.machine_names() == []
    assert lease.world.uploaded() == []


def test_a_lease_without_progress_times_out(start: Callable[..., Vcsim]) -> None:
    simulator = start(lease_timeout=1)
    with connect(credentials_of(simulator)) as session:
        lease = open_lease(World(simulator, session))
        assert lease.wait() == "ready"
        for _ in range(5):
            time.sleep(0.4)
            lease.managed.HttpNfcLeaseProgress(percent=10)
        assert lease.state == "ready"
        deadline = time.monotonic() + 10
        while lease.state == "ready" and time.monotonic() < deadline:
            time.sleep(0.1)
        assert isinstance(lease.managed.error, vim.fault.Timedout)
        with pytest.raises(vim.fault.Timedout):
            lease.managed.HttpNfcLeaseProgress(percent=20)
        assert lease.world.machine_names() == []


@pytest.mark.parametrize("percent", [-1, 101])
def test_progress_is_a_percentage(lease: Lease, percent: int) -> None:
    with pytest.raises(vmodl.fault.InvalidArgument):
        lease.managed.HttpNfcLeaseProgress(percent=percent)


# What a machine has to be.


def disk_device(config: Any) -> Any:
    return next(
        change.device
        for change in config.deviceChange
        if isinstance(change.device, vim.vm.device.VirtualDisk)
    )


def set_on_disk(name: str, value: Any) -> Callable[[Any], None]:
    return lambda config: setattr(disk_device(config), name, value)


def set_network(config: Any) -> None:
    config.deviceChange[-1].device.backing = vim.vm.device.VirtualEthernetCard.NetworkBackingInfo(
        deviceName="no such network"
    )


BAD_CONFIGS: dict[str, tuple[Callable[[Any], None], str]] = {
    "no controller": (set_on_disk("controllerKey", -77), "InvalidDeviceSpec"),
    "unit 7": (set_on_disk("unitNumber", 7), "InvalidDeviceSpec"),
    "unit 99": (set_on_disk("unitNumber", 99), "InvalidDeviceSpec"),
    "no unit": (set_on_disk("unitNumber", None), "InvalidDeviceSpec"),
    "100 TB": (set_on_disk("capacityInBytes", 100 << 40), "InvalidDeviceSpec"),
    "unknown network": (set_network, "InvalidDeviceBacking"),
    "hardware of the future": (
        lambda config: setattr(config, "version", "vmx-99"),
        "VirtualHardwareVersionNotSupported",
    ),
    "unknown guest": (lambda config: setattr(config, "guestId", "dosGuest2"), "InvalidArgument"),
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_hardware_that_a_host_refuses_fails_the_lease(world: World, name: str) -> None:
    change, fault = BAD_CONFIGS[name]
    lease = open_lease(world, change)
    assert lease.wait() == "error"
    assert type(lease.managed.error).__name__.endswith(fault)
    assert world.machine_names() == []


@pytest.mark.parametrize("path", ["[no such store]", "", "LocalDS_0"])
def test_an_unknown_datastore_is_a_fault(world: World, path: str) -> None:
    def change(config: Any) -> None:
        config.files.vmPathName = path

    with pytest.raises((vim.fault.InvalidDatastorePath, vim.fault.InvalidDatastore)):
        open_lease(world, change)


def test_a_name_in_use_is_refused_with_its_owner(world: World) -> None:
    moid = world.import_one()
    with pytest.raises(vim.fault.DuplicateName) as caught:
        open_lease(world)
    assert caught.value.object._moId == moid


def test_a_thick_disk_needs_its_space_at_once(start: Callable[..., Vcsim]) -> None:
    simulator = start(datastore_capacity=32 * MIB)
    with connect(credentials_of(simulator)) as session:

        def thick(config: Any) -> None:
            disk_device(config).backing.thinProvisioned = False

        lease = open_lease(World(simulator, session), thick)
        assert lease.wait() == "error"
        assert isinstance(lease.managed.error, vim.fault.NoDiskSpace)


# What does not end it.


def test_calls_without_a_session_are_refused(vcsim: Vcsim) -> None:
    from vsphere.connection import Door

    door = Door(credentials_of(vcsim), 10)
    stub = door._first_stub()
    instance = vim.ServiceInstance("ServiceInstance", stub)
    with pytest.raises(vim.fault.NotAuthenticated):
        instance.RetrieveContent().viewManager.CreateContainerView(
            container=instance.RetrieveContent().rootFolder, type=[], recursive=True
        )
    with pytest.raises(vim.fault.NotAuthenticated):
        _ = instance.RetrieveContent().rootFolder.name
    stub.DropConnections()


def test_a_terminated_session_is_over(world: World) -> None:
    with connect(credentials_of(world.vcsim)) as other:
        key = other.content.sessionManager.currentSession.key
        world.session.content.sessionManager.TerminateSession(sessionId=[key])
        with pytest.raises(vim.fault.NotAuthenticated):
            other.content.rootFolder.Destroy_Task()


def test_unset_properties_read_as_unset(world: World) -> None:
    target = vim.VirtualMachine(world.import_one(), world.session.stub)
    assert target.snapshot is None
    assert target.parentVApp is None
    assert target.runtime.powerState == "poweredOff"
    assert target.summary.config.name == "web-01"


ODD_REQUESTS: dict[str, Callable[[Any], Any]] = {
    "SET. of a value that does not fit": lambda vm: vm.ReconfigVM_Task(
        spec=vim.vm.ConfigSpec(extraConfig=[vim.option.OptionValue(key="SET.guest.net", value="x")])
    ),
    "remove a device that is not there": lambda vm: vm.ReconfigVM_Task(
        spec=vim.vm.ConfigSpec(
            deviceChange=[
                vim.vm.device.VirtualDeviceSpec(
                    operation="edit", device=vim.vm.device.VirtualDisk(key=9999, controllerKey=1)
                )
            ]
        )
    ),
    "revert to no snapshot": lambda vm: vm.RevertToCurrentSnapshot_Task(),
    "answer no question": lambda vm: vm.AnswerVM(questionId="x", answerChoice="y"),
    "screenshot": lambda vm: vm.CreateScreenshot_Task(),
    "clone": lambda vm: vm.CloneVM_Task(
        folder=vm.parent, name="x", spec=vim.vm.CloneSpec(location=vim.vm.RelocateSpec())
    ),
}


@pytest.mark.parametrize("name", ODD_REQUESTS)
def test_odd_requests_are_answered_with_faults(world: World, name: str) -> None:
    target = vim.VirtualMachine(world.import_one(), world.session.stub)
    with pytest.raises(vmodl.MethodFault):
        raise ODD_REQUESTS[name](target).info.error
    assert world.machine_names() == ["web-01"]


@pytest.mark.parametrize(
    "body", [b"", b"<", b"<a/>", b"\xff" * 100, b"<Envelope><Body/></Envelope>"]
)
def test_no_request_body_ends_it(lease: Lease, body: bytes) -> None:
    status, _ = lease.post(body, path="/sdk", media_type="text/xml")
    assert status == 500
    assert lease.world.vcsim.is_running()


def test_large_answers_come_in_pages(start: Callable[..., Vcsim]) -> None:
    from vsphere.properties import PAGE_OBJECTS

    simulator = start(portgroups=PAGE_OBJECTS + 10)
    with connect(credentials_of(simulator)) as session:
        names = {network.name for network in session.inventory().networks}
    assert len(names) == PAGE_OBJECTS + 12


def test_only_loopback_and_known_names_open_the_fault_doors(vcsim: Vcsim) -> None:
    import urllib.error

    with pytest.raises(urllib.error.HTTPError, match="400"):
        vcsim.faults(no_such_fault=True)
    assert vcsim.faults(delay_ms=1)["delay_ms"] == 1
