"""DR status: that it agrees with the home page, what it says of each machine, what it costs."""

import csv
import io
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from console.identity import this_core
from console.jobs.choices import JobState
from console.jobs.models import Job
from console.readiness import ReadinessState, collect
from protected_machines.choices import ConnectionState, MachineKind, PointState
from protected_machines.models import Machine
from recovery_store.store import Store
from replication.failover.draft import draft_failover
from replication.models import RecoveryObjective, ReplicatedMachine
from replication.status.grades import Grade
from replication.status.report import MachineStatus, Report, gather_report, grade_text
from replication.status.table import csv_of
from tests.factories import (
    DESCRIPTION,
    GIB,
    NOON,
    make_machine,
    make_recovery_point,
    make_vcenter,
)
from tests.reading import as_read
from tests.replication.recoveries import make_recovery
from tests.replication.rows import make_pairing, make_replica, make_replicated, make_stored_point

pytestmark = pytest.mark.django_db

NOW = NOON + timedelta(minutes=5)
URL = "/status/"
HTMX = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def places(store: Store) -> None:
    """A store for real points, and somewhere to fail over to."""
    make_vcenter()


def make_held(state: str = PointState.PROVEN, **changes: Any) -> ReplicatedMachine:
    """A machine that Headquarters replicates here, with one point of noon."""
    of_pairing = {"direction": "incoming", "peer_name": "Headquarters"}
    pairing = make_pairing(**of_pairing, **changes.pop("pairing", {}))
    machine = make_replica(
        pairing,
        **{"name": "db-01", "agent_certificate_pem": this_core().certificate_pem, **changes},
    )
    trusted = [{"name": "DR site", "fingerprint": this_core().fingerprint}]
    description = {**DESCRIPTION, "trusted_cores": trusted}
    make_stored_point(machine, description, state=state, taken_at=NOON)
    return make_replicated(pairing, machine, last_point_at=NOON, newest_point_at=NOON)


def make_failed_over(**changes: Any) -> Machine:
    """A machine that runs here since a failover, with a recent proven point."""
    core = this_core()
    values: dict[str, Any] = {
        "name": "web-01",
        "kind": MachineKind.FAILED_OVER,
        "owner_core_id": core.id,
        "owner_core_name": core.name,
        "source_core_id": uuid.uuid4(),
        **changes,
    }
    machine = make_machine(**values)
    make_recovery_point(machine, state=PointState.PROVEN)
    return machine


def only_machine(report: Report | None = None) -> MachineStatus:
    (machine,) = (report or gather_report(NOW)).machines
    return machine


def test_a_replicated_machine_within_its_objectives_is_green() -> None:
    make_held()
    row = only_machine()
    assert row.readiness.state is ReadinessState.READY
    assert row.copy_text == "Copy on this core"
    assert (row.loss.seconds, row.point_grade) == (300, Grade.WITHIN)
    assert row.proven_at == NOON
    assert row.prediction is None
    assert row.recovery_grade is Grade.UNKNOWN


def test_a_failed_over_machine_has_no_second_copy_and_is_not_green(signed_in: Client) -> None:
    make_failed_over()
    row = only_machine()
    assert row.readiness.state is ReadinessState.AT_RISK
    assert row.copy_text == "No second copy"
    for url in (URL, "/"):
        assert "has no second copy" in as_read(signed_in.get(url))


def test_while_its_source_core_is_unreachable_a_copy_may_be_the_only_one() -> None:
    make_held(pairing={"connection_state": ConnectionState.UNREACHABLE})
    report = gather_report(NOW)
    assert (report.with_second_copy, report.without_second_copy) == (0, 1)
    assert only_machine(report).copy_text == "Copy on this core, perhaps the only one"
    (row,) = csv.DictReader(io.StringIO(csv_of(report)))
    assert row["second_copy"] == "only"


def test_a_failed_over_machine_that_is_replicated_again_has_a_second_copy() -> None:
    machine = make_failed_over()
    make_replicated(make_pairing(peer_name="New HQ"), machine, last_point_at=NOON)
    row = only_machine()
    assert row.readiness.state is ReadinessState.FAILED_OVER
    assert row.copy_text == "Copy on New HQ"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"last_point_at": None}, "No recovery point has arrived on DR site yet."),
        ({"is_paused": True}, "Its copy on DR site gets no newer points: replication is paused."),
        ({"last_point_at": NOON - timedelta(days=1)}, "If it were lost now, 24 hours of data"),
    ],
)
def test_the_copy_at_the_target_core_counts_at_the_source(
    changes: dict[str, Any], reason: str
) -> None:
    machine = make_machine()
    make_recovery_point(machine, state=PointState.PROVEN)
    pairing = make_pairing(peer_name="DR site")
    make_replicated(pairing, machine, **{"last_point_at": NOON, **changes})
    row = only_machine()
    assert row.readiness.state is ReadinessState.AT_RISK
    assert any(found.startswith(reason) for found in row.readiness.reasons)


def spoil(trouble: str) -> None:
    """Bring a replicated machine into a trouble that must not be green."""
    if trouble == "silent":
        make_held(pairing={"connection_state": ConnectionState.UNREACHABLE})
    elif trouble == "damaged":
        make_held(PointState.DAMAGED)
    elif trouble == "disputed":
        claim = {"claim_core_id": uuid.uuid4(), "claim_core_name": "Elsewhere", "claim_epoch": 3}
        make_held(**claim)
    elif trouble == "held":
        machine = make_held().machine
        Job.objects.create(
            kind="failover",
            title="Failover",
            subject_id=machine.pk,
            subject_name=machine.name,
            is_exclusive=True,
            plan_version=1,
            params={},
            queue="control",
            state=JobState.HELD,
        )
    else:
        row = make_held()
        RecoveryObjective.objects.create(
            subject_id=row.pairing.peer_core_id, **{f"{trouble}_seconds": 60}
        )
        if trouble == "recovery":
            make_recovery(row.machine, "export", NOON, 10, 500, copied_bytes=1000)


@pytest.mark.parametrize("trouble", ["silent", "damaged", "disputed", "held", "point", "recovery"])
def test_status_home_page_and_dialog_never_disagree(trouble: str, signed_in: Client) -> None:
    """What one of them finds wrong with a machine, none of the others shows green."""
    spoil(trouble)
    (entry,) = collect(NOW).machines
    row = only_machine()
    assert row.readiness == entry
    assert entry.state not in (ReadinessState.READY, ReadinessState.FAILED_OVER)
    assert entry.reasons
    for url in (URL, "/"):
        page = as_read(signed_in.get(url))
        assert entry.state.label in page
        assert "Yes: " not in page
    for replicated in ReplicatedMachine.objects.select_related("pairing"):
        for offered in draft_failover(replicated.pairing, NOW).machines:
            assert not offered.is_chosen or entry.state is not ReadinessState.NOT_READY
            assert offered.is_chosen or entry.state is ReadinessState.NOT_READY


def test_a_missed_objective_says_by_how_much() -> None:
    spoil("point")
    row = only_machine()
    assert row.point_grade is Grade.BEYOND
    assert row.readiness.reasons == (
        "If it were lost now, 5 minutes of data would be lost; the objective is 1 min.",
    )


def test_recoveries_are_measured_from_their_jobs() -> None:
    row = make_held()
    make_recovery(row.machine, "export", NOON, 10, 90)
    make_recovery(row.machine, "failover", NOON + timedelta(minutes=3), 10, 40, 60)
    make_recovery(row.machine, "restore", NOON, 10, 40, 60, state=JobState.FAILED)
    found = only_machine()
    assert found.last_recovery is not None
    assert (found.last_recovery.kind, found.last_recovery.seconds) == ("failover", 110)
    assert found.proven_at == NOON + timedelta(minutes=3, seconds=110)
    assert found.prediction is not None
    assert found.prediction.is_whole
    assert found.prediction.rests_on == "1 failover and 1 export measured here"
    assert found.recovery_grade is Grade.WITHIN


def test_what_was_added_since_the_proof_is_counted() -> None:
    replicated = make_held()
    for minute in (1, 2, 3):
        make_recovery_point(
            replicated.machine,
            parent_id=uuid.uuid4(),
            taken_at=NOON + timedelta(minutes=minute),
            stored_bytes=1000,
        )
    machine = only_machine().machine
    assert (machine.newer_points, machine.newer_bytes) == (3, 3000)
    assert machine.changes is not None
    assert (machine.changes.usual_bytes, machine.changes.usual_seconds) == (1000, 60)
    assert only_machine().loss.bytes == 2000


def test_no_more_queries_for_more_machines() -> None:
    row = make_held()
    make_recovery(row.machine, "export", NOON, 10, 90)
    counts = []
    for _ in range(2):
        for _ in range(4):
            machine = make_failed_over(name=f"{uuid.uuid4()}")
            make_recovery(machine, "failover", NOON, 10, 90, 10)
        with CaptureQueriesContext(connection) as queries:
            gather_report(NOW)
        counts.append(len(queries))
    assert counts[0] == counts[1]


class TestPage:
    def test_it_answers_the_four_questions(self, signed_in: Client) -> None:
        row = make_held()
        began_at = timezone.now() - timedelta(hours=2)
        job = make_recovery(row.machine, "failover", began_at, 10, 40, 60)
        ReplicatedMachine.objects.update(last_point_at=timezone.now())
        page = as_read(signed_in.get(URL))
        for shown in (
            "1 of 1",
            "predicted for the slowest recovery",
            "the oldest of the last proofs",
            f'<a href="{job.get_absolute_url()}">Failover',
            "Measured recoveries",
        ):
            assert shown in page, shown

    def test_what_was_never_measured_is_not_known(self, signed_in: Client) -> None:
        make_held()
        page = as_read(signed_in.get(URL))
        assert "No export or failover was measured here yet." in page
        assert "No recovery was measured here yet" in page

    def test_a_grade_names_its_objective(self, signed_in: Client) -> None:
        assert grade_text(Grade.DOUBLE, 3600) == "Up to 2× objective of 1 h"
        assert grade_text(Grade.UNKNOWN, 60) == "Not known, objective 1 min"
        make_held(PointState.DAMAGED)
        page = as_read(signed_in.get(URL))
        assert "Not known, objective 3 h 1 min" in page
        assert "Not possible now" in page

    def test_an_empty_core_says_so(self, signed_in: Client) -> None:
        page = as_read(signed_in.get(URL))
        assert "Nothing is protected here yet" in page
        assert "Download CSV" not in page

    def test_the_fragment_polls_and_has_no_frame(self, signed_in: Client) -> None:
        make_held()
        fragment = signed_in.get(URL, headers=HTMX).content.decode()
        assert "<html" not in fragment
        assert "every 30s" in fragment

    def test_only_reading_is_possible_and_only_signed_in(
        self, signed_in: Client, client: Client
    ) -> None:
        for url in (URL, reverse("status:csv")):
            assert signed_in.post(url).status_code == 405
            assert Client().get(url).status_code == 302

    def test_it_can_be_downloaded_as_csv(self, signed_in: Client) -> None:
        row = make_held(name="=cmd()")
        make_recovery(row.machine, "export", NOON, 10, 90, copied_bytes=GIB)
        response = signed_in.get(reverse("status:csv"))
        assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert "dr-status-" in response.headers["Content-Disposition"]
        (found,) = csv.DictReader(io.StringIO(response.content.decode()))
        assert found["machine"] == "'=cmd()"
        assert found["source_core"] == "Headquarters"
        assert found["second_copy"] == "here"
        assert found["prediction_rests_on"].startswith("1 export measured here")
        assert found["last_recovery_seconds"] == "100"


class TestObjectives:
    def of_core(self, row: ReplicatedMachine) -> str:
        return reverse("status:core-objectives", args=[row.pairing.peer_core_id])

    def test_they_are_set_for_a_core_and_for_one_machine(self, signed_in: Client) -> None:
        row = make_held()
        assert "Headquarters" in as_read(signed_in.get(self.of_core(row)))
        sent = {"point_minutes": "10", "recovery_minutes": "60"}
        assert signed_in.post(self.of_core(row), sent).headers["Location"] == URL
        assert only_machine().objectives.point_seconds == 600
        of_machine = reverse("status:machine-objectives", args=[row.machine_id])
        response = signed_in.post(of_machine, {"point_minutes": "5"}, headers=HTMX)
        assert response.headers["HX-Redirect"] == URL
        objectives = only_machine().objectives
        assert (objectives.point_seconds, objectives.recovery_seconds) == (300, 3600)

    def test_without_any_the_defaults_hold_again(self, signed_in: Client) -> None:
        row = make_held()
        signed_in.post(self.of_core(row), {"point_minutes": "10"})
        signed_in.post(self.of_core(row), {})
        assert not RecoveryObjective.objects.exists()

    @pytest.mark.parametrize("minutes", ["0", "-1", "x", "1e9", "99999999999999999999"])
    def test_what_is_no_number_of_minutes_is_refused(self, signed_in: Client, minutes: str) -> None:
        row = make_held()
        response = signed_in.post(self.of_core(row), {"point_minutes": minutes})
        assert response.status_code == 422
        assert not RecoveryObjective.objects.exists()

    def test_there_are_none_of_a_core_or_machine_that_does_not_exist(
        self, signed_in: Client
    ) -> None:
        for name in ("core", "machine"):
            url = reverse(f"status:{name}-objectives", args=[uuid.uuid4()])
            assert signed_in.get(url).status_code == 404
