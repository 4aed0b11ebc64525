"""The simulator is as strict as ESXi, and nothing ends it."""

import hashlib
import http.client
import ssl
import time
import urllib.error
from collections.abc import Callable
from typing import Any

import pytest

from lab.vcsim.process import Vcsim
from tests.places.vcsim import credentials_of
from tests.vsphere.disks import GRAIN_BYTES, MIB
from tests.vsphere.leases import Lease, open_lease
from tests.vsphere.site import STREAM, World
from vsphere import connect
from vsphere.api import vim, vmodl
from vsphere.door import Door
from vsphere.upload import MEDIA_TYPE

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
    assert lease.managed.HttpNfcLeaseGetManifest() == []
    lease.post()
    (entry,) = lease.managed.HttpNfcLeaseGetManifest()
    assert entry.key == lease.managed.info.deviceUrl[0].key
    assert (entry.size, entry.sha1) == (len(STREAM), hashlib.sha1(STREAM).hexdigest())
    assert (entry.disk, entry.capacity, entry.populatedSize) == (True, 64 * MIB, 40 * GRAIN_BYTES)


def test_the_manifest_can_be_sha256(lease: Lease) -> None:
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
        for _ in range(3):
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
        key = other.calls.content.sessionManager.currentSession.key
        world.session.calls.content.sessionManager.TerminateSession(sessionId=[key])
        with pytest.raises(vim.fault.NotAuthenticated):
            other.calls.content.rootFolder.Destroy_Task()


def test_unset_properties_read_as_unset(world: World) -> None:
    target = vim.VirtualMachine(world.import_one(), world.session.calls.stub)
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
    target = vim.VirtualMachine(world.import_one(), world.session.calls.stub)
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


def test_only_loopback_and_known_names_open_the_fault_doors(vcsim: Vcsim) -> None:
    with pytest.raises(urllib.error.HTTPError, match="400"):
        vcsim.faults(no_such_fault=True)
    assert vcsim.faults(delay_ms=1)["delay_ms"] == 1
