"""What a core keeps of machines that announce themselves, and of those who only say so."""

import ssl
import uuid
from datetime import timedelta
from pathlib import Path

import pytest

from agent.tls import ensure_identity
from protected_machines.agents.announcements import KEPT_BOOTS, hear, usable_addresses
from protected_machines.errors import AnnouncementRefused
from protected_machines.models import Announcement, Machine
from tests.factories import NOON, make_machine

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def certificate_pem(tmp_path_factory: pytest.TempPathFactory) -> str:
    return ensure_identity(tmp_path_factory.mktemp("agent"), "db-01")[0].read_text()


@pytest.fixture
def machine(certificate_pem: str) -> Machine:
    return make_machine(name="db-01", host="192.0.2.5", agent_certificate_pem=certificate_pem)


def say(
    machine: Machine, boot_id: str = "boot-1", *addresses: str, caller: str = "", minute: int = 0
) -> None:
    shown = ssl.PEM_cert_to_DER_cert(machine.agent_certificate_pem)
    hear(machine.pk, shown, boot_id, 8006, addresses, caller, NOON + timedelta(minutes=minute))


def rows() -> list[dict[str, object]]:
    return list(Announcement.objects.order_by("pk").values())


def test_the_newest_start_comes_first_and_only_a_few_are_kept(machine: Machine) -> None:
    for number in range(KEPT_BOOTS + 3):
        say(machine, f"boot-{number}", "192.0.2.7", minute=number)
    kept = [row.boot_id for row in machine.announcements.all()]
    assert kept == [f"boot-{KEPT_BOOTS + 2 - number}" for number in range(KEPT_BOOTS)]


def test_where_it_called_from_comes_before_what_it_says(machine: Machine) -> None:
    say(machine, "boot-1", "10.0.0.3", "192.0.2.7", "2001:db8::7", caller="192.0.2.7")
    (row,) = machine.announcements.all()
    assert row.addresses == ["192.0.2.7", "10.0.0.3", "2001:db8::7"]


def test_a_start_that_has_a_new_address_says_so(machine: Machine) -> None:
    say(machine, "boot-1", "192.0.2.7")
    say(machine, "boot-1", "192.0.2.8")
    assert [row.addresses for row in machine.announcements.all()] == [["192.0.2.8"]]


def test_an_old_start_changes_nothing(machine: Machine) -> None:
    say(machine, "boot-1", "192.0.2.7")
    say(machine, "boot-2", "192.0.2.8", minute=1)
    before = rows()
    say(machine, "boot-1", "192.0.2.66", minute=2)
    assert rows() == before


def test_starts_that_come_too_fast_are_refused(machine: Machine) -> None:
    say(machine, "boot-1", "192.0.2.7")
    before = rows()
    for number in range(1000):
        with pytest.raises(AnnouncementRefused, match="just announced another start"):
            say(machine, f"forged-{number}", "192.0.2.66")
    assert rows() == before


def test_a_thousand_repeats_write_nothing(machine: Machine) -> None:
    say(machine, "boot-1", "192.0.2.7")
    before = rows()
    for _ in range(1000):
        say(machine, "boot-1", "192.0.2.7")
    assert rows() == before


@pytest.mark.parametrize("how", ["none", "another", "of another machine"])
def test_a_certificate_that_is_not_the_machine_s_changes_nothing(
    machine: Machine, tmp_path: Path, how: str
) -> None:
    shown = b""
    if how != "none":
        shown = ssl.PEM_cert_to_DER_cert(ensure_identity(tmp_path, "db-01")[0].read_text())
    if how == "of another machine":
        make_machine(host="192.0.2.9", agent_certificate_pem=ssl.DER_cert_to_PEM_cert(shown))
    with pytest.raises(AnnouncementRefused) as caught:
        hear(machine.pk, shown, "boot-1", 8006, ["192.0.2.66"], "192.0.2.66")
    assert caught.value.code == "MACHINE-ANNOUNCEMENT-REFUSED"
    assert rows() == []


def test_an_unknown_machine_and_one_without_a_certificate_change_nothing(
    certificate_pem: str,
) -> None:
    unpaired = make_machine(agent_certificate_pem="")
    shown = ssl.PEM_cert_to_DER_cert(certificate_pem)
    for machine_id in (uuid.uuid4(), unpaired.pk):
        with pytest.raises(AnnouncementRefused):
            hear(machine_id, shown, "boot-1", 8006, ["192.0.2.66"], "192.0.2.66")
    assert rows() == []


def test_the_machine_itself_stays_as_it_was(machine: Machine) -> None:
    before = Machine.objects.filter(pk=machine.pk).values().get()
    say(machine, "boot-1", "192.0.2.7", caller="192.0.2.7")
    assert Machine.objects.filter(pk=machine.pk).values().get() == before


def test_addresses_that_lead_nowhere_are_left_out() -> None:
    said = ["fe80::1", "127.0.0.1", "::1", "0.0.0.0", "224.0.0.1", "db-01", "192.0.2.7"]
    assert usable_addresses(["127.0.2.3", *said, "192.0.2.7"]) == ["127.0.2.3", "192.0.2.7"]
