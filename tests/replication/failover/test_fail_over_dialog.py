"""The Fail Over dialog and the start: findings, defaults, double clicks, two administrators."""

import re
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from console.identity import this_core
from console.jobs.errors import JobConflict
from console.jobs.models import Job
from console.jobs.testing import fail_at, run_until_done
from lab.vcsim.process import Vcsim
from protected_machines.choices import MachineKind
from protected_machines.exports.vcenters import connect
from protected_machines.models import Machine, RecoveryPoint, VCenter
from replication.failover.draft import draft_failover
from replication.failover.start import start_failover
from replication.models import Failover, Pairing, ReplicatedMachine
from tests.places.guests import Guests
from tests.reading import as_read
from tests.replication.rows import make_replica, make_replicated

HTMX = {"HX-Request": "true"}


def address_of(pairing: Pairing) -> str:
    return reverse("replication:pairing-fail-over", args=[pairing.pk])


def fields_of(page: str) -> dict[str, str]:
    """Return what a browser would send from the dialog as it stands."""
    values: dict[str, str] = {}
    for tag in re.findall(r"<input [^>]*>", page):
        attributes = dict(re.findall(r'([a-z-]+)="([^"]*)"', tag))
        if attributes.get("type") == "checkbox":
            if " checked" in tag:
                values[attributes["name"]] = "on"
        elif "name" in attributes:
            values[attributes["name"]] = attributes.get("value", "")
    for name, body in re.findall(r'<select name="([^"]+)"[^>]*>(.*?)</select>', page, re.DOTALL):
        options = re.findall(r'<option value="([^"]*)"( selected)?', body)
        values[name] = next((value for value, chosen in options if chosen), options[0][0])
    values["reason"] = "The site burns."
    return values


@pytest.fixture
def dialog(signed_in: Client, replica: ReplicatedMachine, vcenter: VCenter) -> dict[str, str]:
    """The fields of the dialog with its defaults."""
    page = signed_in.get(address_of(replica.pairing), headers=HTMX).content.decode()
    assert 'aria-disabled="true"' not in page
    return fields_of(page)


def test_it_needs_a_session(client: Client, incoming: Pairing) -> None:
    assert client.get(address_of(incoming)).status_code == 302


def test_a_target_core_cannot_be_failed_over(signed_in: Client, outgoing: Pairing) -> None:
    assert signed_in.get(address_of(outgoing)).status_code == 404


def test_it_lists_the_steps_and_what_cannot_be_undone(
    signed_in: Client, replica: ReplicatedMachine, vcenter: VCenter
) -> None:
    page = signed_in.get(address_of(replica.pairing), headers=HTMX).content.decode()
    assert "<html" not in page
    for title in (
        "Switch this core to failover mode for the machine",
        "Export the recovery point to a new VM",
        "Verify both snapshots",
        "Cannot be undone: the machine is live here and writes its own data",
    ):
        assert title in page


def test_it_works_as_a_page_without_script(
    signed_in: Client, replica: ReplicatedMachine, vcenter: VCenter
) -> None:
    page = signed_in.get(address_of(replica.pairing)).content.decode()
    assert "<html" in page
    assert "Continue" in page


def test_the_defaults_are_the_newest_proven_point_and_the_machine_as_it_was(
    dialog: dict[str, str], replica: ReplicatedMachine
) -> None:
    machine = replica.machine
    key = str(machine.pk)
    assert dialog[f"{key}-is_chosen"] == "on"
    assert dialog[f"{key}-point"] == str(machine.points.first().pk)
    assert dialog[f"{key}-vm_name"] == machine.name
    assert dialog[f"{key}-cpus"] == str(machine.description["cpus"])
    assert all(dialog[name] for name in ("datacenter", "compute", "folder", "datastore", "network"))


def test_an_older_proven_point_is_taken_before_an_unproven_newer_one(
    signed_in: Client, replica: ReplicatedMachine, vcenter: VCenter
) -> None:
    newest, older = replica.machine.points.all()
    RecoveryPoint.objects.filter(pk=newest.pk).update(state="unproven")
    page = signed_in.get(address_of(replica.pairing), headers=HTMX).content.decode()
    assert fields_of(page)[f"{replica.machine_id}-point"] == str(older.pk)
    assert "newer is available but not selected" in page


def test_a_source_that_answers_is_warned_of(
    signed_in: Client, replica: ReplicatedMachine, vcenter: VCenter
) -> None:
    replica.pairing.connection_state = "online"
    replica.pairing.save(update_fields=["connection_state"])
    page = signed_in.get(address_of(replica.pairing), headers=HTMX).content.decode()
    assert "Headquarters still responds" in page
    assert "FAILOVER-SOURCE-REACHABLE" in page


def test_without_a_vcenter_it_says_what_to_do(
    signed_in: Client, replica: ReplicatedMachine
) -> None:
    page = signed_in.get(address_of(replica.pairing), headers=HTMX).content.decode()
    assert "This core has no vCenter yet." in page
    assert 'aria-disabled="true"' in page


def test_what_the_account_may_not_read_is_named(
    signed_in: Client, replica: ReplicatedMachine, vcenter: VCenter, vcsim: Vcsim
) -> None:
    with connect(vcenter) as session:
        inventory = session.inventory()
    with vcsim.unreadable(inventory.hosts[-1].moid):
        page = as_read(signed_in.get(address_of(replica.pairing), headers=HTMX))
    assert "PLACEMENT-UNREADABLE" in page
    assert f"may not read: host {inventory.hosts[-1].name} (System.Read)" in page


def test_a_destination_that_may_not_be_read_leaves_the_others_to_choose_from(
    signed_in: Client, replica: ReplicatedMachine, vcenter: VCenter, vcsim: Vcsim
) -> None:
    with connect(vcenter) as session:
        inventory = session.inventory()
    with vcsim.unreadable(inventory.folders[0].moid):
        page = as_read(signed_in.get(address_of(replica.pairing), headers=HTMX))
    assert "PLACEMENT-PRIVILEGE-MISSING" in page
    assert inventory.datastores[0].moid in page
    assert f"may not read: folder {inventory.folders[0].name} (System.Read)" in page


def test_without_the_only_datastore_the_missing_right_is_the_reason(
    signed_in: Client, replica: ReplicatedMachine, vcenter: VCenter, vcsim: Vcsim
) -> None:
    with connect(vcenter) as session:
        (datastore,) = session.inventory().datastores
    with vcsim.unreadable(datastore.moid):
        page = as_read(signed_in.get(address_of(replica.pairing), headers=HTMX))
    assert "has no complete destination" in page
    assert f"datastore {datastore.name} (System.Read)" in page


def test_a_vcenter_that_is_away_is_a_finding_and_no_failure(
    signed_in: Client, replica: ReplicatedMachine, vcenter: VCenter
) -> None:
    VCenter.objects.filter(pk=vcenter.pk).update(port=1)
    page = signed_in.get(address_of(replica.pairing), headers=HTMX)
    assert page.status_code == 200
    assert b"DR vCenter cannot be used" in page.content
    assert b"FAILOVER-VSPHERE" in page.content


def test_a_point_of_an_agent_that_trusts_no_core_of_this_machine_cannot_be_chosen(
    signed_in: Client, replica: ReplicatedMachine, vcenter: VCenter, core_home: Path
) -> None:
    # This core has another certificate than the one that the agent in the point trusts.
    identity, aside = core_home / "identity", core_home / "identity-aside"
    identity.rename(aside)
    try:
        page = signed_in.get(address_of(replica.pairing), headers=HTMX).content.decode()
    finally:
        shutil.rmtree(identity)
        aside.rename(identity)
    assert "trusts neither this core" in page
    assert f'name="{replica.machine_id}-is_chosen"' in page
    assert f"{replica.machine_id}-is_chosen" not in fields_of(page)


def test_a_change_in_the_dialog_shows_its_findings(
    signed_in: Client, replica: ReplicatedMachine, vcenter: VCenter, dialog: dict[str, str]
) -> None:
    with connect(vcenter) as session:
        taken = session.inventory(with_virtual_machines=True).virtual_machines[0].name
    dialog[f"{replica.machine_id}-vm_name"] = taken
    answer = signed_in.post(address_of(replica.pairing), {**dialog, "check": "1"}, headers=HTMX)
    page = answer.content.decode()
    assert answer.status_code == 200
    assert not Failover.objects.exists()
    assert 'aria-disabled="true"' in page
    assert re.search(rf"{taken}.*NAME-TAKEN", page, re.DOTALL)


def test_continue_starts_one_job_and_leads_to_its_page(
    signed_in: Client, replica: ReplicatedMachine, dialog: dict[str, str]
) -> None:
    done = signed_in.post(address_of(replica.pairing), dialog, headers=HTMX)
    failover = Failover.objects.get()
    assert done.headers["HX-Redirect"] == f"/replication/failovers/{failover.pk}/"
    job = Job.objects.get()
    assert (job.kind, job.queue, job.group_id) == ("failover", "control", failover.pk)
    assert job.subject_id == replica.machine_id
    assert failover.reason == "The site burns."
    assert failover.requested_by is not None
    (entry,) = failover.machines.all()
    assert entry.chosen["vcenter"] == "DR vCenter"
    assert entry.chosen["datastore"] == "LocalDS_0"


def test_a_double_click_is_one_failover(
    signed_in: Client, replica: ReplicatedMachine, dialog: dict[str, str]
) -> None:
    first = signed_in.post(address_of(replica.pairing), dialog)
    second = signed_in.post(address_of(replica.pairing), dialog)
    assert (first.status_code, second.status_code) == (303, 303)
    assert first.headers["Location"] == second.headers["Location"]
    assert Failover.objects.count() == 1
    assert Job.objects.count() == 1


def test_of_two_administrators_the_second_is_told_about_the_first(
    signed_in: Client, replica: ReplicatedMachine, dialog: dict[str, str]
) -> None:
    """Both dialogs were open before either was continued; the second loses at the database."""
    other = Client()
    other.force_login(get_user_model().objects.create_superuser("second"))
    signed_in.post(address_of(replica.pairing), dialog)
    refused = other.post(
        address_of(replica.pairing), {**dialog, "request_id": str(uuid.uuid4())}, headers=HTMX
    )
    assert refused.status_code == 409
    failover = Failover.objects.get()
    assert f"/replication/failovers/{failover.pk}/" in refused.content.decode()
    assert "admin" in refused.content.decode()
    assert Job.objects.count() == 1


def test_at_the_same_moment_the_database_lets_only_one_begin(
    replica: ReplicatedMachine, dialog: dict[str, str]
) -> None:
    drafts = [
        draft_failover(
            replica.pairing,
            timezone.now(),
            {**dialog, "request_id": str(uuid.uuid4())},
            is_strict=True,
        )
        for _ in range(2)
    ]
    assert all(draft.is_valid() for draft in drafts)
    start_failover(drafts[0].order, None, drafts[0].check)
    with pytest.raises(JobConflict):
        start_failover(drafts[1].order, None, drafts[1].check)
    assert Failover.objects.count() == 1
    assert Job.objects.count() == 1


def test_failover_without_a_reason_is_refused_and_says_what_is_wanted(
    signed_in: Client, replica: ReplicatedMachine, dialog: dict[str, str]
) -> None:
    dialog["reason"] = " "
    checked = signed_in.post(
        address_of(replica.pairing), {**dialog, "check": "1"}, headers=HTMX
    ).content.decode()
    assert "Why this is done. Kept in the audit log" in checked
    assert "Say why this is done." not in checked

    refused = signed_in.post(address_of(replica.pairing), dialog, headers=HTMX)
    assert refused.status_code == 422
    assert b"Say why this is done." in refused.content
    assert not Job.objects.exists()


def test_reason_is_on_the_page_of_the_job(
    signed_in: Client, replica: ReplicatedMachine, dialog: dict[str, str]
) -> None:
    signed_in.post(address_of(replica.pairing), dialog, headers=HTMX)
    page = signed_in.get(Job.objects.get().get_absolute_url()).content.decode()
    assert "<dt>Reason</dt><dd>The site burns.</dd>" in page


def test_what_is_not_offered_is_refused(
    signed_in: Client, replica: ReplicatedMachine, dialog: dict[str, str]
) -> None:
    dialog["datastore"] = "datastore-999"
    refused = signed_in.post(address_of(replica.pairing), dialog, headers=HTMX)
    assert refused.status_code == 422
    assert not Job.objects.exists()


def test_nothing_chosen_is_refused(
    signed_in: Client, replica: ReplicatedMachine, dialog: dict[str, str]
) -> None:
    del dialog[f"{replica.machine_id}-is_chosen"]
    refused = signed_in.post(address_of(replica.pairing), dialog, headers=HTMX)
    assert refused.status_code == 422
    assert b"Select at least one machine." in refused.content


@pytest.mark.parametrize(("field", "value"), [("cpus", "0"), ("memory_mib", "x"), ("vm_name", "")])
def test_a_wrong_figure_is_refused_with_the_form(
    signed_in: Client,
    replica: ReplicatedMachine,
    dialog: dict[str, str],
    field: str,
    value: str,
) -> None:
    dialog[f"{replica.machine_id}-{field}"] = value
    refused = signed_in.post(address_of(replica.pairing), dialog, headers=HTMX)
    assert refused.status_code == 422
    assert not Job.objects.exists()


def test_a_machine_without_points_is_shown_and_cannot_go(
    signed_in: Client, replica: ReplicatedMachine, vcenter: VCenter
) -> None:
    bare = make_replicated(replica.pairing, make_replica(replica.pairing, name="bare"))
    page = signed_in.get(address_of(replica.pairing), headers=HTMX).content.decode()
    assert "No complete recovery point of bare has arrived here" in page
    assert f"{bare.machine_id}-is_chosen" not in fields_of(page)
    assert f"{replica.machine_id}-is_chosen" in fields_of(page)


def test_one_machine_alone_is_offered_from_its_own_row(
    signed_in: Client, replica: ReplicatedMachine, vcenter: VCenter
) -> None:
    make_replicated(replica.pairing, make_replica(replica.pairing, name="other"))
    address = reverse("replication:machine-fail-over", args=[replica.pk])
    page = signed_in.get(address, headers=HTMX).content.decode()
    assert "db-01" in page
    assert ">other" not in page


def test_a_machine_that_is_failed_over_is_refused_with_the_reason(
    signed_in: Client, replica: ReplicatedMachine
) -> None:
    Machine.objects.filter(pk=replica.machine_id).update(
        kind=MachineKind.FAILED_OVER, owner_core_id=this_core().id
    )
    refused = signed_in.get(reverse("replication:machine-fail-over", args=[replica.pk]))
    assert refused.status_code == 409
    assert b"This machine has already failed over." in refused.content


class TestFailoverPage:
    @pytest.fixture
    def failover(
        self, signed_in: Client, replica: ReplicatedMachine, dialog: dict[str, str], guests: Guests
    ) -> Any:
        signed_in.post(address_of(replica.pairing), dialog)
        yield Failover.objects.get()
        guests.remove_all()

    def address(self, failover: Failover) -> str:
        return reverse("replication:failover", args=[failover.pk])

    def test_it_polls_while_open_and_stops_at_the_end(
        self, signed_in: Client, failover: Failover
    ) -> None:
        page = signed_in.get(self.address(failover), headers=HTMX).content.decode()
        seen = re.search(r"seen=([0-9a-f]{16})", page)
        assert seen
        poll = f"{self.address(failover)}?seen={seen[1]}"
        assert signed_in.get(poll, headers=HTMX).status_code == 204
        run_until_done(Job.objects.get(), limit_seconds=60)
        after = signed_in.get(poll, headers=HTMX)
        assert after.status_code == 200
        assert "jobs-changed" in after.headers["HX-Trigger"]
        assert b"hx-trigger" not in after.content
        shown = as_read(signed_in.get(self.address(failover)))
        assert "Failed over" in shown
        assert "Runs in VM <strong>db-01</strong>" in shown

    def test_a_failed_one_says_why_and_can_be_tried_again(
        self, signed_in: Client, failover: Failover
    ) -> None:
        with fail_at("power_on"):
            job = run_until_done(Job.objects.get(), limit_seconds=60)
        page = signed_in.get(self.address(failover)).content.decode()
        assert "Not failed over" in page
        assert "A fault was injected into power_on." in page
        retry = reverse("replication:failover-retry", args=[failover.pk, job.pk])
        assert signed_in.post(retry).headers["Location"] == self.address(failover)
        again = run_until_done(Job.objects.exclude(pk=job.pk).get(), limit_seconds=60)
        assert again.state == "succeeded"
        assert "Failed over" in signed_in.get(self.address(failover)).content.decode()

    def test_it_can_be_cancelled_from_its_page(
        self, signed_in: Client, failover: Failover, replica: ReplicatedMachine
    ) -> None:
        job = Job.objects.get()
        cancel = reverse("replication:failover-cancel", args=[failover.pk, job.pk])
        assert signed_in.post(cancel).status_code == 303
        assert run_until_done(job).is_cancelled
        assert signed_in.post(cancel).status_code == 409

    def test_the_number_of_queries_does_not_grow_with_its_machines(
        self, signed_in: Client, failover: Failover, django_assert_max_num_queries: Any
    ) -> None:
        with django_assert_max_num_queries(8):
            signed_in.get(self.address(failover), headers=HTMX)

    def test_a_job_of_another_failover_is_not_reached_through_it(
        self, signed_in: Client, failover: Failover
    ) -> None:
        cancel = reverse("replication:failover-cancel", args=[failover.pk, uuid.uuid4()])
        assert signed_in.post(cancel).status_code == 404


def test_a_slow_vcenter_does_not_hold_the_page(
    signed_in: Client,
    replica: ReplicatedMachine,
    vcenter: VCenter,
    vcsim: Vcsim,
    settings: Settings,
) -> None:
    settings.UNDERSTUDY_VSPHERE_LOOK_SECONDS = 1
    vcsim.faults(delay_ms=2000)
    try:
        page = signed_in.get(address_of(replica.pairing), headers=HTMX)
    finally:
        vcsim.no_faults()
    assert b"did not respond within 1 seconds" in page.content


def test_a_missing_store_is_no_reason_to_choose_another_point(
    signed_in: Client, replica: ReplicatedMachine, core_home: Path
) -> None:
    store, away = core_home / "store", core_home / "store-away"
    store.rename(away)
    try:
        page = signed_in.get(address_of(replica.pairing)).content.decode()
    finally:
        shutil.rmtree(store, ignore_errors=True)
        away.rename(store)
    assert "The store with its recovery points cannot be used." in page
    assert str(store / "store.json") in page
    assert "Choose another one" not in page
