"""Copy to Seed Drive, Consume Seed Drive and Abandon: what they show, refuse and start."""

import uuid
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

from console.jobs.models import Job
from console.jobs.testing import run_until_done
from recovery_store.archiving import archive
from recovery_store.store import Store
from replication.choices import SeedDriveState
from replication.models import ReplicatedMachine, SeedDrive
from tests.factories import NOON, make_machine
from tests.protected_machines.archives.archived import Archived, make_archived
from tests.replication.rows import make_pairing, make_replicated

HTMX = {"HX-Request": "true"}


@pytest.fixture
def archived(db: None, store: Store, tmp_path: Path) -> Archived:
    return make_archived(tmp_path)


@pytest.fixture
def replicated(archived: Archived) -> ReplicatedMachine:
    return make_replicated(make_pairing(), archived.machine)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    folder = tmp_path / "usb"
    folder.mkdir()
    return folder


def url_of(replicated: ReplicatedMachine) -> str:
    return reverse("replication:machine-seed-drive", args=[replicated.pk])


def core_url_of(replicated: ReplicatedMachine) -> str:
    return reverse("replication:pairing-seed-drive", args=[replicated.pairing_id])


def asked(folder: Path | str, *rows: ReplicatedMachine, **changes: str) -> dict[str, object]:
    values = {"folder": str(folder), "machines": [str(row.pk) for row in rows]}
    return {**values, "request_id": str(uuid.uuid4()), **changes}


def test_it_is_a_page_and_a_fragment(signed_in: Client, replicated: ReplicatedMachine) -> None:
    for url in (url_of(replicated), core_url_of(replicated)):
        assert "<html" in signed_in.get(url).content.decode()
        fragment = signed_in.get(url, headers=HTMX).content.decode()
        assert 'id="seed-drive"' in fragment
        assert "<html" not in fragment
        assert signed_in.delete(url).status_code == 405
        assert Client().get(url).status_code == 302


def test_a_look_starts_nothing_and_a_copy_starts_once_for_each_machine(
    signed_in: Client, replicated: ReplicatedMachine, disk: Path, tmp_path: Path
) -> None:
    other = make_replicated(replicated.pairing, make_archived(tmp_path, "web-01").machine)
    url = core_url_of(replicated)
    look = signed_in.post(url, asked(disk / "seed", replicated, other, check="1"), headers=HTMX)
    assert look.status_code == 200
    assert "in 4 recovery points" in look.content.decode()
    assert not Job.objects.exists()
    values = asked(disk / "seed", replicated, other)
    for _ in range(2):
        assert signed_in.post(url, values).status_code == 303
    assert {job.subject_id for job in Job.objects.all()} == {replicated.pk, other.pk}
    assert Job.objects.count() == 2
    for job in Job.objects.all():
        run_until_done(job)
    assert SeedDrive.objects.outstanding().count() == 2


@pytest.mark.parametrize(
    ("folder", "code"),
    [("seed", "ARCHIVE-PATH-RELATIVE"), ("{home}/store", "ARCHIVE-PATH-OF-THIS-CORE")],
)
def test_a_place_that_will_not_do_is_refused(
    signed_in: Client, replicated: ReplicatedMachine, core_home: Path, folder: str, code: str
) -> None:
    values = asked(folder.format(home=core_home), replicated)
    answer = signed_in.post(url_of(replicated), values, headers=HTMX)
    assert answer.status_code == 422
    assert code in answer.content.decode()
    assert not Job.objects.exists()


def test_a_machine_without_points_and_an_empty_form_are_refused(
    signed_in: Client, replicated: ReplicatedMachine, disk: Path
) -> None:
    bare = make_replicated(replicated.pairing, make_machine(name="bare"))
    answer = signed_in.post(core_url_of(replicated), asked(disk, replicated, bare))
    assert answer.status_code == 422
    page = answer.content.decode()
    assert "SEED-DRIVE-NO-POINT" in page
    assert "bare has no recovery points yet." in page
    assert signed_in.post(core_url_of(replicated), asked(disk)).status_code == 422


def test_a_machine_with_an_outstanding_drive_or_another_owner_is_not_copied(
    signed_in: Client, replicated: ReplicatedMachine, disk: Path
) -> None:
    drive = SeedDrive.objects.create(replicated=replicated, folder="/mnt/usb")
    page = signed_in.get(url_of(replicated), headers=HTMX).content.decode()
    assert "A seed drive of this machine is already outstanding" in page
    assert signed_in.post(url_of(replicated), asked(disk, replicated)).status_code == 409
    force = reverse("replication:machine-force", args=[replicated.pk])
    assert signed_in.post(force).status_code == 409
    drive.end(SeedDriveState.ABANDONED, NOON)
    replicated.machine.owner_core_id = uuid.uuid4()
    replicated.machine.save(update_fields=["owner_core_id"])
    assert signed_in.post(url_of(replicated), asked(disk, replicated)).status_code == 409
    incoming = make_replicated(make_pairing(direction="incoming"))
    assert signed_in.post(url_of(incoming), asked(disk, incoming)).status_code == 409


def test_only_a_whole_drive_that_is_outstanding_is_abandoned(
    signed_in: Client, replicated: ReplicatedMachine
) -> None:
    drive = SeedDrive.objects.create(replicated=replicated, folder="/mnt/usb")
    url = reverse("replication:seed-drive-abandon", args=[drive.pk])
    assert signed_in.post(url).status_code == 409
    SeedDrive.objects.update(newest_point_id=uuid.uuid4(), oldest_at=NOON, newest_at=NOON)
    page = signed_in.get(url, headers=HTMX).content.decode()
    assert "will be sent over the link instead" in page
    assert SeedDrive.objects.outstanding().exists()
    assert signed_in.post(url).status_code == 303
    assert signed_in.post(url).status_code == 409
    drive.refresh_from_db()
    assert drive.state == SeedDriveState.ABANDONED
    assert Client().post(url).status_code == 302
    unknown = reverse("replication:seed-drive-abandon", args=[uuid.uuid4()])
    assert signed_in.post(unknown).status_code == 404


def test_a_drive_is_consumed_only_for_the_core_that_made_it(
    signed_in: Client, archived: Archived, store: Store, disk: Path
) -> None:
    archive(store, str(archived.machine.pk), disk / "seed")
    incoming = make_pairing(direction="incoming", peer_name="Headquarters")
    url = reverse("replication:pairing-consume", args=[incoming.pk])
    assert "Consume Seed Drive" in signed_in.get(url, headers=HTMX).content.decode()
    values = {**asked(disk / "seed"), "machines": str(archived.machine.pk)}
    page = signed_in.post(url, {"folder": str(disk / "seed")}, headers=HTMX).content.decode()
    assert "db-01 is not a machine of Headquarters. Use Import Archive instead." in page
    assert "IMPORT-NOT-OF-THAT-CORE" in page
    assert signed_in.post(url, values).status_code == 422
    make_replicated(incoming, archived.machine)
    answer = signed_in.post(url, values)
    assert (answer.status_code, answer["Location"]) == (303, "/replication/")
    assert Job.objects.get().kind == "import_archive"
    outgoing = make_pairing(peer_core_id=uuid.uuid4())
    wrong = reverse("replication:pairing-consume", args=[outgoing.pk])
    assert signed_in.post(wrong, values).status_code == 409
