"""The audit log holds each order of a job, each request to one that exists, and each end."""

import uuid
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User

from console.audit.acts import known_acts
from console.audit.choices import ActorKind
from console.audit.door import Actor, come_in
from console.audit.log import chain_pending
from console.audit.models import Entry
from console.jobs.acts import cancel_job, close_job, retry_job, start_job
from console.jobs.choices import JobState
from console.jobs.testing import fail_at, run_until_done
from console.jobs.workflow import registered_workflows
from protected_machines.points.workflow import SnapshotParams
from tests.console.jobs.demo import Params, start_demo
from tests.factories import make_machine

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return get_user_model().objects.create_user("alice")


def acts() -> list[tuple[str, str, str]]:
    """What was recorded: the act, who, and how it went."""
    chain_pending()
    return [(one.act, one.actor_name, one.outcome) for one in Entry.objects.order_by("number")]


def test_order_and_end_of_a_job_are_recorded(tmp_path: Path, alice: User) -> None:
    with come_in(Actor(ActorKind.PERSON, "alice", "1", "192.0.2.7")):
        job = start_job(
            "demo", uuid.uuid4(), "web-01", Params(str(tmp_path)), alice, reason="A flood."
        )
    run_until_done(job)

    assert acts() == [("job-start:demo", "alice", "done"), ("job-end:demo", "Test core", "done")]
    start, end = Entry.objects.order_by("number")
    assert start.sentence == "Send parcel of web-01 was started."
    assert end.sentence == "Send parcel of web-01 is done."
    assert {start.reason, end.reason} == {"A flood."}
    assert {(one.object_kind, one.object_id) for one in (start, end)} == {("job", str(job.pk))}


def test_order_that_is_repeated_is_recorded_once(tmp_path: Path) -> None:
    for _ in range(2):
        start_job(
            "demo", uuid.UUID(int=1), "web-01", Params(str(tmp_path)), request_id=uuid.UUID(int=2)
        )

    assert acts() == [("job-start:demo", "Test core", "done")]


def test_failed_end_says_why_and_a_retry_keeps_the_reason(tmp_path: Path, alice: User) -> None:
    job = start_job("demo", uuid.uuid4(), "web-01", Params(str(tmp_path)), reason="A flood.")
    with fail_at("copy"):
        run_until_done(job)
    again = retry_job(job, alice)

    assert [act for act, _, outcome in acts() if outcome == "failed"] == ["job-end:demo"]
    end, retry = Entry.objects.order_by("number")[1:]
    assert end.sentence.startswith("Send parcel of web-01 failed: ")
    assert retry.sentence == "Send parcel of web-01 was started again."
    assert (again.reason, retry.reason) == ("A flood.", "A flood.")


def test_cancel_is_recorded_by_who_asked(tmp_path: Path, alice: User) -> None:
    job = start_demo(tmp_path)
    with come_in(Actor(ActorKind.PERSON, "alice", "1", "192.0.2.7")):
        cancel_job(job, alice)
    run_until_done(job)

    assert acts()[1:] == [
        ("job-request:cancel_requested", "alice", "done"),
        ("job-end:demo", "Test core", "failed"),
    ]
    end = Entry.objects.order_by("number").last()
    assert end is not None
    assert end.sentence.endswith("was cancelled and undone.")


def test_close_is_recorded(tmp_path: Path, alice: User) -> None:
    job = start_demo(tmp_path)
    with fail_at("thank"):
        assert run_until_done(job).state == JobState.NEEDS_ATTENTION
    with come_in(Actor(ActorKind.PERSON, "alice", "1", "192.0.2.7")):
        close_job(job, alice)

    assert ("job-request:closed", "alice", "done") in acts()


def test_routine_snapshot_is_recorded_only_if_it_does_not_succeed() -> None:
    machine = make_machine()
    job = start_job("snapshot", machine.pk, machine.name, SnapshotParams())
    assert acts() == []
    with fail_at("reserve_point"):
        run_until_done(job)

    assert acts() == [("job-end:snapshot", "Test core", "failed")]


def test_snapshot_that_a_person_or_a_core_orders_is_recorded(alice: User) -> None:
    for number, kind in enumerate((ActorKind.PERSON, ActorKind.CORE)):
        machine = make_machine(name=f"web-0{number}")
        with come_in(Actor(kind, "somebody", "", "192.0.2.7")):
            start_job("snapshot", machine.pk, machine.name, SnapshotParams())

    assert acts() == [("job-start:snapshot", "somebody", "done")] * 2


def test_every_workflow_has_titles_in_the_log_and_only_schedules_are_routine() -> None:
    kinds = {one.kind for one in registered_workflows()}

    assert {f"job-{what}:{kind}" for kind in kinds for what in ("start", "end")} <= {
        *known_acts(),
        # Of the tests.
        *(f"job-{what}:{kind}" for kind in ("demo", "patient") for what in ("start", "end")),
    }
    routine = {one.kind for one in registered_workflows() if one.is_routine}
    assert routine == {"snapshot", "replicate"}
