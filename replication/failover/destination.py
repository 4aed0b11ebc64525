"""Where machines can go: what a vCenter offers, surveyed within a time limit.

A vCenter that is slow, unreachable or refuses raises nothing here: pages show the reason.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field, replace
from uuid import UUID

from django.conf import settings

from console.findings import Finding
from console.wording import bytes_human
from protected_machines.errors import ProtectedMachinesError
from protected_machines.exports.check import check_placement
from protected_machines.exports.places import check_readable, places_in, split_compute
from protected_machines.exports.vcenters import open_session
from protected_machines.models import VCenter
from replication.failover.order import Destination
from vsphere.errors import VSphereError, WrongPassword
from vsphere.inventory import Inventory
from vsphere.spec import Placement, VmSpace

logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 5.0
Choices = list[tuple[str, str]]
_TITLES = {
    "datacenter": "datacenter",
    "compute": "resource pool or host",
    "folder": "VM folder",
    "datastore": "datastore",
    "network": "network",
}


@dataclass(frozen=True)
class PlacementQuestion:
    """Would this VM fit at the destination?"""

    machine_id: UUID
    vm_name: str
    space: VmSpace


@dataclass
class Survey:
    """What a vCenter offers, what is chosen from it, and the findings about each VM there."""

    chosen: Destination = field(default_factory=Destination)
    # By field of the destination.
    choices: dict[str, Choices] = field(default_factory=dict)
    resource_pool: str = ""
    host: str = ""
    datastore_name: str = ""
    trouble_text: str = ""
    # By machine.
    findings: dict[UUID, list[Finding]] = field(default_factory=dict)

    def title_of(self, name: str) -> str:
        """Return the chosen entry of a list as it is shown."""
        return dict(self.choices.get(name, [])).get(getattr(self.chosen, name), "")


def survey_vcenter(
    vcenter: VCenter,
    wanted: Destination,
    questions: Sequence[PlacementQuestion],
    *,
    takes_defaults: bool,
) -> Survey:
    """Return what the vCenter offers and whether each VM would fit at the wanted destination.

    takes_defaults: a choice that is not offered is replaced; otherwise it is kept and refused.
    """
    limit_seconds = settings.UNDERSTUDY_VSPHERE_LOOK_SECONDS
    try:
        vcenter.check_may_sign_in()
    except ProtectedMachinesError as error:
        return Survey(wanted, trouble_text=str(error))
    pool = ThreadPoolExecutor(1, thread_name_prefix="vcenter-survey")
    future = pool.submit(_survey, vcenter, wanted, questions, takes_defaults)
    try:
        return future.result(timeout=limit_seconds)
    except FutureTimeoutError:
        text = (
            f"{vcenter.name} did not respond within {limit_seconds} seconds. Check it, or "
            "choose another vCenter."
        )
        return Survey(wanted, trouble_text=text)
    except (VSphereError, ProtectedMachinesError, OSError) as error:
        logger.warning("vcenter not surveyed vcenter_id=%s error=%s", vcenter.pk, error)
        if isinstance(error, WrongPassword):
            vcenter.record_refusal(str(error))
        return Survey(wanted, trouble_text=f"{vcenter.name} cannot be used: {error}")
    finally:
        pool.shutdown(wait=False)


def _survey(
    vcenter: VCenter,
    wanted: Destination,
    questions: Sequence[PlacementQuestion],
    takes_defaults: bool,
) -> Survey:
    with open_session(vcenter, timeout_seconds=_CONNECT_SECONDS) as session:
        inventory = session.inventory()
        survey = choose_destination(inventory, wanted, takes_defaults)
        chosen = survey.chosen
        unreadable = check_readable(inventory, chosen.datacenter)
        survey.trouble_text = _destination_trouble(vcenter.name, survey)
        if survey.trouble_text:
            texts = [survey.trouble_text, *(finding.text for finding in unreadable)]
            survey.trouble_text = " ".join(texts)
            return survey
        placement = Placement(
            datacenter=chosen.datacenter,
            resource_pool=survey.resource_pool,
            host=survey.host or None,
            datastore=chosen.datastore,
            folder=chosen.folder or None,
            network=chosen.network,
        )
        for question in questions:
            survey.findings[question.machine_id] = check_placement(
                session, placement, question.vm_name, question.space
            )
    found = _check_space_together(questions, _free_bytes(inventory, chosen.datastore))
    found += unreadable
    for findings in survey.findings.values():
        findings.extend(found)
    return survey


def _check_space_together(questions: Sequence[PlacementQuestion], free_bytes: int) -> list[Finding]:
    """Return what is wrong with all VMs on one datastore; about a single one, vSphere says it."""
    spaces = [question.space for question in questions]
    swap_bytes = sum(space.swap_bytes for space in spaces)
    full_bytes = swap_bytes + sum(space.capacity_bytes for space in spaces)
    if len(spaces) < 2 or full_bytes <= free_bytes:
        return []
    free = f"but this datastore has only {bytes_human(free_bytes)} free."
    first_bytes = swap_bytes + sum(space.read_data_bytes() for space in spaces)
    if first_bytes > free_bytes:
        text = f"All selected machines together need {bytes_human(first_bytes)}, {free}"
        return [Finding.error("FAILOVER-SPACE-TOGETHER", text)]
    text = f"All selected machines together could grow to {bytes_human(full_bytes)}, {free}"
    return [Finding.warning("FAILOVER-SPACE-TOGETHER", text)]


def choose_destination(inventory: Inventory, wanted: Destination, takes_defaults: bool) -> Survey:
    """Return what is offered, and what is chosen from it."""
    offered: dict[str, Choices] = {"datacenter": places_in(inventory).datacenters}

    def pick(name: str) -> str:
        values = [value for value, _ in offered[name]]
        asked: str = getattr(wanted, name)
        if asked in values or (asked and not takes_defaults):
            return asked
        return values[0] if values and takes_defaults else ""

    datacenter = pick("datacenter")
    places = places_in(inventory, datacenter)
    offered["compute"] = places.computes
    offered["folder"] = places.folders
    compute, resource_pool, host = pick("compute"), "", ""
    try:
        resource_pool, host = split_compute(compute)
    except ValueError:
        compute = ""
    reachable = _reachable(inventory, resource_pool, host)
    offered["datastore"] = [one for one in places.datastores if one[0] in reachable]
    offered["network"] = [one for one in places.networks if one[0] in reachable]
    datastore = pick("datastore")
    return Survey(
        chosen=replace(
            wanted,
            datacenter=datacenter,
            compute=compute,
            folder=pick("folder"),
            datastore=datastore,
            network=pick("network"),
        ),
        choices=offered,
        resource_pool=resource_pool,
        host=host,
        datastore_name=next(
            (one.name for one in inventory.datastores if one.moid == datastore), ""
        ),
    )


def _destination_trouble(vcenter_name: str, survey: Survey) -> str:
    """Return why no VM can go to the chosen destination; empty if VMs can."""
    for name, offered in survey.choices.items():
        value = getattr(survey.chosen, name)
        if value and value not in [known for known, _ in offered]:
            return (
                f"{vcenter_name} no longer offers the chosen {_TITLES[name]}. Choose another one."
            )
    if not all(getattr(survey.chosen, name) for name in survey.choices if name != "folder"):
        return (
            f"{vcenter_name} has no complete destination: it needs a datacenter with a "
            "resource pool, a datastore and a network that can be used together."
        )
    return ""


def _reachable(inventory: Inventory, resource_pool: str, host: str) -> set[str]:
    """Return the datastores and networks available to a VM in this pool or on this host."""
    for single in inventory.hosts:
        if single.moid == host:
            return {*single.datastores, *single.networks}
    pools = {pool.moid: pool.cluster for pool in inventory.resource_pools}
    for cluster in inventory.clusters:
        if cluster.moid == pools.get(resource_pool):
            return {*cluster.datastores, *cluster.networks}
    return set()


def _free_bytes(inventory: Inventory, datastore: str) -> int:
    return next((store.free_bytes for store in inventory.datastores if store.moid == datastore), 0)
