"""Hear machines that announce themselves, and find out where one answers.

An announcement is believed as far as its certificate goes: it is the machine's agent that speaks,
on the machine or on a copy of it. It changes nothing but a few rows that say where to look.
"""

import ipaddress
import logging
import ssl
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from console.pace import is_within
from protected_machines.errors import AnnouncementRefused
from protected_machines.models import Announcement, Machine

logger = logging.getLogger(__name__)

KEPT_BOOTS = 8
# No machine starts more often. Whatever comes faster is refused, and comes again.
SECONDS_BETWEEN_BOOTS = 5
# What is said again within this time is not written again.
WRITTEN_EVERY_SECONDS = 5


def hear(
    machine_id: UUID,
    certificate_der: bytes,
    boot_id: str,
    port: int,
    addresses: Sequence[str],
    caller_address: str,
    now: datetime | None = None,
) -> None:
    """Keep where a machine says that it is. A boot after which another one came says nothing new.

    certificate_der: what the caller has proven to have the key of.
    caller_address: where the call came from, which is the likeliest place.

    Raises:
        AnnouncementRefused: the caller is not the machine's agent, or starts too often.
    """
    with transaction.atomic():
        machine = Machine.objects.select_for_update().filter(pk=machine_id).first()
        if machine is None or not _is_agent_of(machine, certificate_der):
            raise AnnouncementRefused(
                "This core does not know the machine by this certificate. Nothing was recorded."
            )
        now = now or timezone.now()
        found = usable_addresses([caller_address, *addresses])
        said = {"addresses": found, "port": port}
        kept = list(machine.announcements.all())
        if kept and kept[0].boot_id == boot_id:
            newest = kept[0]
            is_news = said != {"addresses": newest.addresses, "port": newest.port}
            if is_news or not is_within(newest.heard_at, WRITTEN_EVERY_SECONDS, now):
                machine.announcements.filter(pk=newest.pk).update(heard_at=now, **said)
            return
        if any(earlier.boot_id == boot_id for earlier in kept):
            logger.info("announced an old boot machine_id=%s boot_id=%s", machine_id, boot_id)
            return
        if kept and is_within(kept[0].first_heard_at, SECONDS_BETWEEN_BOOTS, now):
            raise AnnouncementRefused("The machine has just announced another start.")
        Announcement.objects.create(
            machine=machine, boot_id=boot_id, first_heard_at=now, heard_at=now, **said
        )
        outdated = [earlier.pk for earlier in kept[KEPT_BOOTS - 1 :]]
        Announcement.objects.filter(pk__in=outdated).delete()
    logger.info("announced machine_id=%s addresses=%s", machine_id, ",".join(found))


def _is_agent_of(machine: Machine, certificate_der: bytes) -> bool:
    pem = machine.agent_certificate_pem
    return bool(pem) and ssl.PEM_cert_to_DER_cert(pem) == certificate_der


def usable_addresses(addresses: Iterable[str]) -> list[str]:
    """Return the addresses that may lead to a machine, each once.

    Only the first, from where it called, may be one of this computer, as those of a lab are.
    """
    usable = []
    for number, text in enumerate(addresses):
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        is_elsewhere = not (
            address.is_link_local
            or address.is_unspecified
            or address.is_multicast
            or (number and address.is_loopback)
        )
        if is_elsewhere and str(address) not in usable:
            usable.append(str(address))
    return usable
