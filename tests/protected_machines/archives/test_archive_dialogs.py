"""The dialogs Archive and Import Archive: what they show, refuse and start."""

import uuid
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

from console.jobs.models import Job
from console.jobs.testing import run_until_done
from protected_machines.models import Machine, RecoveryPoint
from recovery_store.archiving import archive
from recovery_store.store import Store
from tests.factories import make_machine
from tests.protected_machines.archives.archived import Archived, forget, make_archived
from tests.reading import as_read

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
IMPORT = "/machines/import-archive/"


@pytest.fixture
def archived(db: None, store: Store, tmp_path: Path) -> Archived:
    return make_archived(tmp_path)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    folder = tmp_path / "usb"
    folder.mkdir()
    return folder


def url_of(machine: Machine) -> str:
    return reverse("protected_machines:archive-start", args=[machine.pk])


def asked(folder: Path | str, **changes: str) -> dict[str, str]:
    return {"folder": str(folder), "point_id": "", "request_id": str(uuid.uuid4()), **changes}


def test_both_are_a_page_and_a_fragment_and_linked(admin_client: Client) -> None:
    machine = make_machine()
    for url, element in ((url_of(machine), 'id="archive"'), (IMPORT, 'id="import-archive"')):
        assert "<html" in admin_client.get(url).content.decode()
        fragment = admin_client.get(url, headers=HTMX).content.decode()
        assert element in fragment
        assert "<html" not in fragment
        assert admin_client.delete(url).status_code == 405
    assert url_of(machine) in admin_client.get(machine.get_absolute_url()).content.decode()
    assert IMPORT in admin_client.get("/machines/").content.decode()


def test_nobody_without_a_session_and_no_unknown_machine(
    client: Client, admin_client: Client
) -> None:
    machine = make_machine()
    assert client.get(url_of(machine)).status_code == 302
    assert client.get(IMPORT).status_code == 302
    unknown = reverse("protected_machines:archive-start", args=[uuid.uuid4()])
    assert admin_client.get(unknown).status_code == 404


def test_a_machine_without_points_says_so(admin_client: Client) -> None:
    machine = make_machine()
    assert "has no recovery points" in admin_client.get(url_of(machine)).content.decode()
    assert admin_client.post(url_of(machine), asked("/mnt")).status_code == 409


def test_a_look_shows_what_is_copied_and_starts_nothing(
    admin_client: Client, archived: Archived, disk: Path
) -> None:
    values = asked(disk / "new", check="1")
    page = admin_client.post(url_of(archived.machine), values, headers=HTMX).content.decode()
    assert "in 2 recovery points" in page
    assert values["request_id"] in page
    page = as_read(
        admin_client.post(
            url_of(archived.machine),
            asked(disk / "new", check="1", point_id=str(archived.points[0].pk)),
            headers=HTMX,
        )
    )
    assert "in 1 recovery point </dd>" in page
    empty = admin_client.post(url_of(archived.machine), asked("", check="1"), headers=HTMX)
    assert empty.status_code == 200
    assert "This field is required" not in empty.content.decode()
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("folder", "code"),
    [
        ("usb", "ARCHIVE-PATH-RELATIVE"),
        ("/does/not/exist", "ARCHIVE-PATH-MISSING"),
        ("{home}/store", "ARCHIVE-PATH-OF-THIS-CORE"),
        ("/proc/archive", "ARCHIVE-TOO-SMALL"),
    ],
)
def test_a_place_that_will_not_do_is_refused_with_the_reason(
    admin_client: Client, archived: Archived, core_home: Path, folder: str, code: str
) -> None:
    values = asked(folder.format(home=core_home))
    answer = admin_client.post(url_of(archived.machine), values, headers=HTMX)
    assert answer.status_code == 422
    assert code in answer.content.decode()
    assert not Job.objects.exists()


def test_an_archive_starts_once_however_often_it_is_sent(
    admin_client: Client, archived: Archived, disk: Path
) -> None:
    values = asked(disk, point_id=str(archived.points[1].pk))
    for _ in range(2):
        assert admin_client.post(url_of(archived.machine), values).status_code == 303
    job = Job.objects.get()
    assert (job.kind, job.subject_id) == ("archive", archived.machine.pk)
    assert job.params == {"folder": str(disk), "point_id": str(archived.points[1].pk)}


def test_a_damaged_point_is_not_archived(
    admin_client: Client, archived: Archived, disk: Path
) -> None:
    archived.points[1].mark_damaged("disk0.vmdk is torn")
    values = asked(disk, point_id=str(archived.points[1].pk))
    answer = admin_client.post(url_of(archived.machine), values)
    assert answer.status_code == 422
    page = answer.content.decode()
    assert "ARCHIVE-POINT-DAMAGED" in page
    assert "disk0.vmdk is torn" in page


def test_an_archive_that_has_it_all_is_said_to(
    admin_client: Client, archived: Archived, store: Store, disk: Path
) -> None:
    archive(store, str(archived.machine.pk), disk)
    values = asked(disk, check="1")
    page = admin_client.post(url_of(archived.machine), values, headers=HTMX).content.decode()
    assert "ARCHIVE-NOTHING-NEW" in page


@pytest.fixture
def folder(archived: Archived, store: Store, disk: Path) -> Path:
    archive(store, str(archived.machine.pk), disk)
    return disk


def test_what_is_in_it_is_shown_before_anything_starts(
    admin_client: Client, archived: Archived, folder: Path
) -> None:
    forget(archived.points[0].machine_id)
    page = as_read(admin_client.post(IMPORT, {"folder": str(folder)}, headers=HTMX))
    assert "2 recovery points up to" in page
    assert "2 to import, " in page
    assert "All 2, " in page
    assert not Job.objects.exists()


@pytest.mark.parametrize("name", ["", "not there", "file"])
def test_a_folder_that_is_no_archive_is_said_at_its_field(
    admin_client: Client, tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").touch()
    answer = admin_client.post(IMPORT, {"folder": str(tmp_path / name)}, headers=HTMX)
    assert answer.status_code == 422
    assert "ARCHIVE-" in answer.content.decode()


def test_an_import_starts_once_and_brings_the_machine(
    admin_client: Client, archived: Archived, folder: Path
) -> None:
    machine_id = archived.points[0].machine_id
    forget(machine_id)
    values = {**asked(folder), "machines": str(machine_id)}
    for _ in range(2):
        answer = admin_client.post(IMPORT, values)
        assert (answer.status_code, answer["Location"]) == (303, "/machines/")
    run_until_done(Job.objects.get())
    assert RecoveryPoint.objects.count() == 2
    machine = Machine.objects.get()
    page = admin_client.get(machine.get_absolute_url()).content.decode()
    assert "Recovery points only" in page
    assert "Points only" in admin_client.get("/machines/").content.decode()


def test_machines_are_chosen_and_none_is_an_error(
    admin_client: Client, archived: Archived, folder: Path, store: Store, tmp_path: Path
) -> None:
    other = make_archived(tmp_path, "web-01")
    archive(store, str(other.machine.pk), folder)
    page = as_read(admin_client.post(IMPORT, {"folder": str(folder)}, headers=HTMX))
    assert page.count("all already on this core") == 2
    assert "checked" not in page
    answer = admin_client.post(IMPORT, asked(folder), headers=HTMX)
    assert answer.status_code == 422
    assert "Select at least one machine." in answer.content.decode()
    chosen = {**asked(folder), "machines": str(other.machine.pk)}
    assert admin_client.post(IMPORT, chosen).status_code == 303
    assert Job.objects.get().subject_id == other.machine.pk
