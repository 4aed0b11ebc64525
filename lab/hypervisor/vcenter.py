"""The hypervisor's connection to the simulated vCenter: read machines, report about guests."""

import contextlib
import logging
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim, vmodl

from lab.hypervisor.configured import PROPERTIES, ConfiguredVm, read_vm
from vsphere import Credentials

log = logging.getLogger(__name__)
# pyvmomi passes on the errors of all layers below it.
FAULTS = (OSError, vmodl.MethodFault, vmodl.RuntimeFault, EOFError, ValueError)
UNREADABLE = (KeyError, AttributeError, TypeError, ValueError)
LIMIT_SECONDS = 30


class VcenterUnreachable(Exception):
    """The simulator does not answer, or answers wrongly; the text says how."""


class Vcenter:
    """A session with the simulator, opened when needed, and again if it is lost."""

    def __init__(self, host: str, port: int, user: str, password: str, ca_path: Path) -> None:
        self.credentials = Credentials(host, port, user, password, None, ca_path)
        self._host, self._port = host, port
        self._user, self._password = user, password
        self._ca_path = ca_path
        self._service: Any = None
        self._unreadable: set[str] = set()

    def read_vms(self) -> list[ConfiguredVm]:
        """Return all virtual machines. One that cannot be read is left out, and logged once.

        Raises:
            VcenterUnreachable: the list cannot be read.
        """
        with self._session() as service:
            objects = self._retrieve(service.RetrieveContent())
        found = []
        for moid, properties in objects:
            try:
                found.append(read_vm(moid, properties))
            except UNREADABLE as error:
                if moid not in self._unreadable:
                    self._unreadable.add(moid)
                    log.warning("a machine cannot be read moid=%s error=%r", moid, error)
        return found

    def report(self, moid: str, options: Mapping[str, str]) -> None:
        """Write what is known about a guest to the machine's extra configuration.

        Raises:
            VcenterUnreachable: vCenter did not accept it.
        """
        values = [vim.option.OptionValue(key=key, value=value) for key, value in options.items()]
        with self._session() as service:
            vm = vim.VirtualMachine(moid, service._stub)
            vm.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=values))

    def power_off(self, moid: str) -> None:
        """Tell vCenter that the machine is off.

        Raises:
            VcenterUnreachable: vCenter did not accept it.
        """
        with self._session() as service:
            vim.VirtualMachine(moid, service._stub).PowerOffVM_Task()

    def close(self) -> None:
        """Log out."""
        if self._service is not None:
            with contextlib.suppress(*FAULTS):
                Disconnect(self._service)
            self._service = None

    @contextlib.contextmanager
    def _session(self) -> Iterator[Any]:
        try:
            if self._service is None:
                self._service = self._connect()
            yield self._service
        except FAULTS as error:
            self._service = None
            text = getattr(error, "msg", None) or str(error) or type(error).__name__
            raise VcenterUnreachable(text) from error

    def _connect(self) -> Any:
        context = ssl.create_default_context(cafile=str(self._ca_path))
        return SmartConnect(
            host=self._host,
            port=self._port,
            user=self._user,
            pwd=self._password,
            sslContext=context,
            httpConnectionTimeout=LIMIT_SECONDS,
        )

    @staticmethod
    def _retrieve(content: Any) -> list[tuple[str, dict[str, Any]]]:
        query = vmodl.query.PropertyCollector
        view = content.viewManager.CreateContainerView(
            content.rootFolder, [vim.VirtualMachine], True
        )
        try:
            specification = query.FilterSpec(
                objectSet=[
                    query.ObjectSpec(
                        obj=view,
                        skip=True,
                        selectSet=[
                            query.TraversalSpec(
                                name="view", path="view", skip=False, type=type(view)
                            )
                        ],
                    )
                ],
                propSet=[query.PropertySpec(type=vim.VirtualMachine, pathSet=list(PROPERTIES))],
            )
            collector = content.propertyCollector
            page = collector.RetrievePropertiesEx([specification], query.RetrieveOptions())
            objects = []
            while page is not None:
                objects += page.objects
                token = getattr(page, "token", None)
                page = collector.ContinueRetrievePropertiesEx(token) if token else None
        finally:
            view.DestroyView()
        return [
            (found.obj._moId, {prop.name: prop.val for prop in found.propSet or ()})
            for found in objects
        ]
