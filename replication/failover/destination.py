"""Where machines may go: what a vCenter offers, looked at within a time limit.

A vCenter that is slow, away or refuses is no exception here: it becomes words that a page shows.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field

from django.conf import settings

from console.findings import Finding
from console.wording import bytes_human
from protected_machines.errors import ProtectedMachinesError
from protected_machines.exports.places import places_in, split_compute
from protected_machines.exports.plan import check_placement
from protected_machines.exports.vcenters import connect
from protected_machines.models import VCenter
from vsphere.errors import VSphereError
from vsphere.inventory import Inventory
from vsphere.spec import Placement

logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 5.0
Choices = list[tuple[str, str]]


@dataclass(frozen=True)
class PlacementQuestion:
    """One VM that is to go somewhere: would it fit there?"""

    key: str
    vm_name: str
    needed_bytes: int


@dataclass
class Place:
    """A destination as chosen in the form: managed object ids."""

    datacenter: str = ""
    # A choice of `protected_machines.places`.
    place: str = ""
    datastore: str = ""
    network: str = ""


@dataclass
class Look:
    """What one look at a vCenter showed: what it offers, what is chosen, what speaks against it."""

    choices: dict[str, Choices] = field(default_factory=dict)
    place: Place = field(default_factory=Place)
    resource_pool: str = ""
    host: str = ""
    trouble_text: str = ""
    findings: dict[str, list[Finding]] = field(default_factory=dict)

    def title_of(self, name: str) -> str:
        """Return the chosen entry of a list as people read it."""
        return dict(self.choices.get(name, [])).get(getattr(self.place, name), "")


def look_at(
    vcenter: VCenter,
    wanted: Place,
    questions: Callable[[], list[PlacementQuestion]],
    is_strict: bool,
) -> Look:
    """Look what the vCenter offers and whether each VM would fit at the wanted place.

    What is wanted but not offered is replaced by a default, unless `is_strict`: then it stays, and
    the form refuses it.
    """
    asked = questions()
    limit_seconds = settings.UNDERSTUDY_VSPHERE_LOOK_SECONDS
    pool = ThreadPoolExecutor(1, thread_name_prefix="vcenter-look")
    future = pool.submit(_look, vcenter, wanted, asked, is_strict)
    try:
        return future.result(timeout=limit_seconds)
    except FutureTimeoutError:
        return Look(
            trouble_text=f"{vcenter.name} did not answer within {limit_seconds} seconds. "
            "Check it, or choose another one."
        )
    except (VSphereError, ProtectedMachinesError, OSError) as error:
        logger.warning("vcenter look vcenter_id=%s error=%s", vcenter.pk, error)
        return Look(trouble_text=f"{vcenter.name} cannot be used: {error}")
    finally:
        pool.shutdown(wait=False)


def _look(vcenter: VCenter, wanted: Place, asked: list[PlacementQuestion], is_strict: bool) -> Look:
    with connect(vcenter, timeout_seconds=_CONNECT_SECONDS) as session:
        inventory = session.inventory()
        look = choose_place(inventory, wanted, is_strict)
        if not all(vars(look.place).values()):
            look.trouble_text = look.trouble_text or (
                f"{vcenter.name} offers no complete place: it needs a datacenter with a resource "
                "pool, a datastore and a network that belong together."
            )
            return look
        placement = Placement(
            datacenter=look.place.datacenter,
            resource_pool=look.resource_pool,
            host=look.host or None,
            datastore=look.place.datastore,
            folder=None,
            network=look.place.network,
        )
        for question in asked:
            look.findings[question.key] = check_placement(
                session, placement, question.vm_name, question.needed_bytes
            )
    needed_bytes = sum(question.needed_bytes for question in asked)
    free_bytes = _free_bytes(inventory, look.place.datastore)
    if len(asked) > 1 and needed_bytes > free_bytes:
        text = (
            f"All chosen machines together could grow to {bytes_human(needed_bytes)}; "
            f"{bytes_human(free_bytes)} are free on this datastore."
        )
        for question in asked:
            look.findings[question.key].append(Finding.warning("FAILOVER-SPACE-TOGETHER", text))
    return look


def choose_place(inventory: Inventory, wanted: Place, is_strict: bool) -> Look:
    """Return what is offered for the wanted place, with defaults where nothing is wanted."""
    look = Look()
    look.choices["datacenter"] = places_in(inventory).datacenters
    look.place.datacenter = _pick(look.choices["datacenter"], wanted.datacenter, is_strict)
    places = places_in(inventory, look.place.datacenter)
    look.choices["place"] = places.computes
    look.place.place = _pick(places.computes, wanted.place, is_strict)
    try:
        look.resource_pool, look.host = split_compute(look.place.place)
    except ValueError:
        look.place.place = ""
    reachable = _reachable(inventory, look.resource_pool, look.host)
    look.choices["datastore"] = [one for one in places.datastores if one[0] in reachable]
    look.place.datastore = _pick(look.choices["datastore"], wanted.datastore, is_strict)
    look.choices["network"] = [one for one in places.networks if one[0] in reachable]
    look.place.network = _pick(look.choices["network"], wanted.network, is_strict)
    return look


def _reachable(inventory: Inventory, resource_pool: str, host: str) -> set[str]:
    """Return the datastores and networks that a machine in this pool or on this host can use."""
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


def _pick(choices: Choices, wanted: str, is_strict: bool) -> str:
    offered = [value for value, _ in choices]
    if wanted in offered or (is_strict and wanted):
        return wanted
    return offered[0] if offered else ""
