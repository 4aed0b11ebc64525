"""Stand-ins for machines that boot: VMs that are on report tools, an address and a boot id."""

import ssl
import threading
import uuid
from contextlib import suppress

from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim, vmodl

from lab.vcsim.process import Vcsim

_POLL_SECONDS = 0.1


class Guests:
    """Watches a simulator and answers for the guests of the VMs that were imported."""

    def __init__(self, vcsim: Vcsim, address: str = "127.0.0.1") -> None:
        self.vcsim = vcsim
        self._address = address
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        # While held, no guest comes up.
        self.asleep = threading.Event()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        self._thread.join(30)

    def names(self) -> list[str]:
        """Return the VMs that jobs of this core have made, with their power state."""
        instance = self._connect()
        try:
            return sorted(f"{vm.name} {vm.runtime.powerState}" for vm in _ours(instance))
        finally:
            Disconnect(instance)

    def remove_all(self) -> None:
        instance = self._connect()
        try:
            for vm in _ours(instance):
                with suppress(vmodl.MethodFault):
                    if vm.runtime.powerState == "poweredOn":
                        _wait(vm.PowerOffVM_Task())
                    _wait(vm.Destroy_Task())
        finally:
            Disconnect(instance)

    def _connect(self) -> vim.ServiceInstance:
        context = ssl.create_default_context(cafile=str(self.vcsim.certificate_path))
        return SmartConnect(
            host=self.vcsim.host,
            port=self.vcsim.port,
            user=self.vcsim.username,
            pwd=self.vcsim.password,
            sslContext=context,
        )

    def _watch(self) -> None:
        while not self._ending.wait(_POLL_SECONDS):
            # A hypervisor does not lose its guests because a test restarts the simulator.
            with suppress(Exception):
                self._watch_session(self._connect())

    def _watch_session(self, instance: vim.ServiceInstance) -> None:
        collector, reading = instance.content.propertyCollector, _reading(instance)
        while not self._ending.wait(_POLL_SECONDS):
            if self.asleep.is_set():
                continue
            try:
                for vm in _asleep(collector, reading):
                    self._come_up(vm)
            except vim.fault.NotAuthenticated:
                raise
            except vmodl.MethodFault:
                pass
        Disconnect(instance)

    def _come_up(self, vm: vim.VirtualMachine) -> None:
        values = {
            "SET.guest.ipAddress": self._address,
            "SET.guest.hostName": "db-01",
            "SET.guest.toolsRunningStatus": "guestToolsRunning",
            "guestinfo.understudy.boot_id": str(uuid.uuid4()),
        }
        options = [vim.option.OptionValue(key=key, value=value) for key, value in values.items()]
        _wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=options)))


def _ours(instance: vim.ServiceInstance) -> list[vim.VirtualMachine]:
    content = instance.RetrieveContent()
    view = content.viewManager.CreateContainerView(
        content.rootFolder, [vim.VirtualMachine], recursive=True
    )
    try:
        return [
            vm
            for vm in view.view
            if any(option.key.startswith("understudy") for option in vm.config.extraConfig or ())
        ]
    finally:
        view.Destroy()


def _reading(instance: vim.ServiceInstance) -> vmodl.query.PropertyCollector.FilterSpec:
    """Describe one call that reads of every VM what tells whether its guest is to come up."""
    collector = vmodl.query.PropertyCollector
    content = instance.RetrieveContent()
    view = content.viewManager.CreateContainerView(
        content.rootFolder, [vim.VirtualMachine], recursive=True
    )
    walk = collector.TraversalSpec(name="view", path="view", type=type(view), skip=False)
    names = ["runtime.powerState", "guest.ipAddress", "config.extraConfig"]
    return collector.FilterSpec(
        objectSet=[collector.ObjectSpec(obj=view, skip=True, selectSet=[walk])],
        propSet=[collector.PropertySpec(type=vim.VirtualMachine, pathSet=names, all=False)],
    )


def _asleep(
    collector: vmodl.query.PropertyCollector, reading: vmodl.query.PropertyCollector.FilterSpec
) -> list[vim.VirtualMachine]:
    """Return the imported VMs that are on and have no address yet."""
    options = vmodl.query.PropertyCollector.RetrieveOptions()
    found = collector.RetrievePropertiesEx([reading], options)
    entries = found.objects if found else ()
    # There is always a VM. Where nothing can be read of any, the session has ended.
    if not any(entry.propSet for entry in entries):
        raise vim.fault.NotAuthenticated
    vms = []
    for entry in entries:
        values = {one.name: one.val for one in entry.propSet}
        ours = (one.key.startswith("understudy") for one in values.get("config.extraConfig") or ())
        is_on = values.get("runtime.powerState") == "poweredOn"
        if is_on and not values.get("guest.ipAddress") and any(ours):
            vms.append(entry.obj)
    return vms


def _wait(task: vim.Task) -> None:
    while task.info.state in ("queued", "running"):
        threading.Event().wait(0.01)
