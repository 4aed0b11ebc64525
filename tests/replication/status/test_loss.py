"""The data-loss clock: minutes and bytes, and what they rest on."""

import uuid
from datetime import timedelta
from typing import Any

from replication.status.facts import Copy, MachineFacts, RecentChanges, SecondCopy
from replication.status.loss import loss_of
from tests.factories import NOON

MIB = 1024**2


def machine(copy: SecondCopy | None = None, **changes: Any) -> MachineFacts:
    values: dict[str, Any] = {
        "machine_id": uuid.UUID(int=1),
        "name": "db-01",
        "core_id": uuid.UUID(int=2),
        "core_name": "Headquarters",
        "kind": "replicated",
        "interval_seconds": 600,
        "copy": copy or SecondCopy(Copy.HERE, "Headquarters"),
        "newest_at": NOON,
        "changes": RecentChanges(usual_bytes=10 * MIB, usual_seconds=600),
        **changes,
    }
    return MachineFacts(**values)


def test_without_a_point_nothing_is_known() -> None:
    loss = loss_of(machine(newest_at=None), NOON)
    assert (loss.seconds, loss.bytes) == (None, None)
    assert loss.rests_on == "There is no point to continue from."


def test_what_waits_is_counted_and_the_rest_is_estimated() -> None:
    copy = SecondCopy(
        Copy.HERE,
        newest_at=NOON + timedelta(minutes=20),
        waiting_points=2,
        waiting_bytes=30 * MIB,
    )
    loss = loss_of(machine(copy), NOON + timedelta(minutes=30))
    assert loss.seconds == 1800
    assert loss.bytes == 40 * MIB
    assert "2 points of 30 MiB wait to be sent, up to about 10 MiB" in loss.rests_on


def test_bytes_are_not_known_before_there_are_two_incrementals() -> None:
    loss = loss_of(machine(changes=None), NOON + timedelta(minutes=5))
    assert (loss.seconds, loss.bytes) == (300, None)
    assert loss.rests_on.startswith("Not known")


def test_of_a_machine_that_runs_here_the_copy_elsewhere_counts() -> None:
    copy = SecondCopy(Copy.THERE, "DR site", point_at=NOON - timedelta(hours=1), newest_at=NOON)
    assert loss_of(machine(copy, kind="protected"), NOON).seconds == 3600


def test_a_point_dated_ahead_makes_it_unknown() -> None:
    assert loss_of(machine(), NOON - timedelta(hours=1)).seconds is None
