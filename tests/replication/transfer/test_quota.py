"""A source core fills no more of this core's store than it may, and is warned of before."""

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from protected_machines.models import Machine, RecoveryPoint
from recovery_store.store import Store
from replication.errors import QuotaReached
from replication.models import Pairing
from replication.pages.readiness import readiness
from replication.transfer import receiving
from replication.transfer.quota import QuotaUse, find_quota_use
from tests.replication.rows import hand_over, make_pairing

GIB = 1 << 30


def limit(pairing: Pairing, quota_bytes: int | None) -> None:
    pairing.quota_bytes = quota_bytes
    pairing.save(update_fields=["quota_bytes"])


def test_what_does_not_fit_is_rejected_before_a_byte_of_it(
    incoming: Pairing, machine: Machine, take_point: Callable[[], RecoveryPoint], store: Store
) -> None:
    kept, first, second = take_point(), take_point(), take_point()
    hand_over(machine, incoming)
    machine_id = str(machine.pk)
    manifests = [store.get_point(machine_id, str(point.pk)) for point in (first, second)]
    for point in (second, first):
        store.delete_point(machine_id, str(point.pk))
        point.delete()
    limit(incoming, kept.stored_bytes + first.stored_bytes - 1)
    with pytest.raises(QuotaReached, match="of its quota here"):
        receiving.begin_replica(incoming, machine, manifests[0].to_bytes())
    assert store.announced_bytes(machine_id) == 0

    limit(incoming, kept.stored_bytes + first.stored_bytes)
    receiving.begin_replica(incoming, machine, manifests[0].to_bytes())
    receiving.begin_replica(incoming, machine, manifests[0].to_bytes())
    use = find_quota_use(incoming)
    assert use is not None
    assert use.used_bytes == use.quota_bytes, "what has begun to arrive counts with all of it"
    (entry,) = readiness(timezone.now())
    assert any("of its quota here" in reason for reason in entry.reasons)
    limit(incoming, None)
    assert find_quota_use(incoming) is None
    (entry,) = readiness(timezone.now())
    assert not any("quota" in reason for reason in entry.reasons)


@pytest.mark.parametrize(
    ("used", "is_warned_of"), [(0, False), (79, False), (80, True), (101, True)]
)
def test_a_quota_warns_before_it_is_reached(used: int, is_warned_of: bool) -> None:
    assert QuotaUse(used, 100).is_warned_of is is_warned_of


def test_a_quota_is_set_for_a_source_core_in_its_settings(
    signed_in: Client, incoming: Pairing
) -> None:
    address = reverse("replication:pairing-settings", args=[incoming.pk])
    values = {"peer_name": incoming.peer_name, "host": incoming.host, "port": incoming.port}
    assert "Quota in GiB" in signed_in.get(address).content.decode()
    for text, quota_bytes in (("7", 7 * GIB), ("", None)):
        assert signed_in.post(address, {**values, "quota_gib": text}).status_code == 303
        incoming.refresh_from_db()
        assert incoming.quota_bytes == quota_bytes
    limit(incoming, 3 * GIB)
    page = signed_in.get(reverse("replication:pairing", args=[incoming.pk])).content.decode()
    assert "of 3 GiB used" in page
    outgoing = make_pairing()
    address = reverse("replication:pairing-settings", args=[outgoing.pk])
    assert "Quota in GiB" not in signed_in.get(address).content.decode()
