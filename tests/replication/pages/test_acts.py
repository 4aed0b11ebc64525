"""What can be asked of cores and machines: pause, resume, force, settings, adding."""

import uuid

import pytest
from django.test import Client
from django.urls import reverse

from console.jobs.models import Job
from protected_machines.models import Machine
from replication.models import Pairing, ReplicatedMachine
from tests.factories import make_machine
from tests.places.peer_core import WRONG_CODE, PeerCore
from tests.places.ports import free_port
from tests.reading import as_read
from tests.replication.rows import make_pairing, make_replicated

HTMX = {"HX-Request": "true"}
ACTS = ("pause", "resume", "force")


def url(name: str, row: Pairing | ReplicatedMachine) -> str:
    return reverse(f"replication:{name}", args=[row.pk])


@pytest.mark.parametrize("act", ACTS)
def test_an_act_is_a_post_of_somebody_signed_in(
    client: Client, signed_in: Client, act: str
) -> None:
    replicated = make_replicated()
    for address in (url(f"pairing-{act}", replicated.pairing), url(f"machine-{act}", replicated)):
        assert client.post(address).status_code == 302
        assert signed_in.get(address).status_code == 405


def test_a_core_is_paused_and_resumed_and_refuses_to_be_twice(signed_in: Client) -> None:
    pairing = make_pairing()
    assert signed_in.post(url("pairing-pause", pairing)).status_code == 303
    pairing.refresh_from_db()
    assert pairing.is_paused
    again = signed_in.post(url("pairing-pause", pairing))
    assert again.status_code == 409
    assert b"Replication is already paused." in again.content
    assert signed_in.post(url("pairing-resume", pairing), headers=HTMX).status_code == 204
    pairing.refresh_from_db()
    assert not pairing.is_paused
    assert signed_in.post(url("pairing-resume", pairing)).status_code == 409


def test_a_machine_is_paused_and_resumed(signed_in: Client) -> None:
    replicated = make_replicated()
    signed_in.post(url("machine-pause", replicated))
    replicated.refresh_from_db()
    assert replicated.is_paused
    assert signed_in.post(url("machine-force", replicated)).status_code == 409
    signed_in.post(url("machine-resume", replicated))
    replicated.refresh_from_db()
    assert not replicated.is_paused


def test_force_starts_the_job_once(signed_in: Client) -> None:
    replicated = make_replicated()
    assert signed_in.post(url("machine-force", replicated)).status_code == 303
    assert signed_in.post(url("machine-force", replicated)).status_code == 409
    assert Job.objects.get().subject_id == replicated.pk


def test_force_of_a_core_starts_all_its_machines(signed_in: Client) -> None:
    pairing = make_pairing()
    wanted = [make_replicated(pairing), make_replicated(pairing)]
    make_replicated(pairing, is_paused=True)
    assert signed_in.post(url("pairing-force", pairing)).status_code == 303
    assert set(Job.objects.values_list("subject_id", flat=True)) == {one.pk for one in wanted}


def test_force_of_a_silent_source_says_that_it_cannot_be_asked(signed_in: Client) -> None:
    pairing = make_pairing(direction="incoming", connection_state="unreachable")
    make_replicated(pairing)
    refused = signed_in.post(url("pairing-force", pairing))
    assert refused.status_code == 409
    assert b"is not responding, so it cannot be asked to send" in refused.content


def test_a_new_address_must_answer_as_the_same_core(
    signed_in: Client, outgoing: Pairing, peer: PeerCore
) -> None:
    values = {"peer_name": "The DR site", "host": "127.0.0.1", "port": str(peer.port)}
    refused = signed_in.post(
        url("pairing-settings", outgoing), {**values, "port": str(free_port())}
    )
    assert refused.status_code == 422
    assert b"is not responding" in refused.content
    outgoing.refresh_from_db()
    assert (outgoing.peer_name, outgoing.port) == ("DR site", peer.port)
    kept = signed_in.post(
        url("pairing-settings", outgoing), {**values, "host": "localhost"}, headers=HTMX
    )
    assert kept.status_code == 204
    outgoing.refresh_from_db()
    assert (outgoing.peer_name, outgoing.host) == ("The DR site", "localhost")


def test_a_target_core_is_added_by_its_code_and_shows_its_certificate(
    signed_in: Client, peer: PeerCore
) -> None:
    address = reverse("replication:target-core-add")
    values = {"host": "127.0.0.1", "port": str(peer.port)}
    opened = signed_in.get(address, headers=HTMX)
    assert "Settings → Pair another core" in opened.content.decode()
    assert signed_in.post(address, values, headers=HTMX).status_code == 422
    wrong = signed_in.post(address, {**values, "code": WRONG_CODE}, headers=HTMX)
    assert wrong.status_code == 422
    assert "does not accept this pairing code" in as_read(wrong)
    done = signed_in.post(address, {**values, "code": peer.pairing_code}, headers=HTMX)
    pairing = Pairing.objects.outgoing().get()
    assert pairing.peer_name == "DR site"
    assert done.headers["HX-Redirect"] == f"/replication/pairings/{pairing.pk}/"
    page = as_read(signed_in.get(done.headers["HX-Redirect"]))
    assert peer.fingerprint in page.replace(" ", "")


def test_nobody_at_the_address_is_said_in_the_form(signed_in: Client) -> None:
    values = {"host": "127.0.0.1", "port": str(free_port()), "code": WRONG_CODE}
    refused = signed_in.post(reverse("replication:target-core-add"), values, headers=HTMX)
    assert refused.status_code == 422
    assert b"No core responds at" in refused.content


def test_machines_are_added_to_a_target_core(signed_in: Client) -> None:
    pairing = make_pairing()
    machines = [make_machine(name="web-01"), make_machine(name="db-01")]
    dialog = signed_in.get(url("pairing-machines-add", pairing), headers=HTMX).content.decode()
    assert "<html" not in dialog
    assert "web-01" in dialog
    nothing = signed_in.post(url("pairing-machines-add", pairing), {}, headers=HTMX)
    assert nothing.status_code == 422
    chosen = {"machines": [str(machine.pk) for machine in machines]}
    assert signed_in.post(url("pairing-machines-add", pairing), chosen).status_code == 303
    assert pairing.machines.count() == 2
    assert Job.objects.filter(kind="replicate").count() == 2


def test_a_machine_of_another_core_is_not_offered(signed_in: Client) -> None:
    pairing = make_pairing()
    make_replicated(make_pairing(direction="incoming"), None)
    machine = Machine.objects.get()
    dialog = signed_in.get(url("pairing-machines-add", pairing), headers=HTMX).content.decode()
    assert machine.name not in dialog


def test_a_machine_is_replicated_from_its_own_page(signed_in: Client) -> None:
    pairing = make_pairing(peer_name="DR site")
    machine = make_machine()
    address = reverse("replication:protected-machine-replicate", args=[machine.pk])
    assert "DR site" in signed_in.get(address).content.decode()
    assert signed_in.post(address, {"pairing": str(pairing.pk)}).status_code == 303
    assert ReplicatedMachine.objects.get().machine == machine


def test_a_machine_of_another_core_is_not_replicated_from_its_own_page(signed_in: Client) -> None:
    pairing = make_pairing(peer_name="DR site")
    machine = make_machine(owner_core_id=uuid.uuid4(), owner_core_name="Headquarters")
    address = reverse("replication:protected-machine-replicate", args=[machine.pk])
    page = signed_in.get(machine.get_absolute_url()).content.decode()
    assert address not in page
    response = signed_in.post(address, {"pairing": str(pairing.pk)})
    assert response.status_code == 409
    assert "Headquarters has owned this machine since" in response.content.decode()
    assert not ReplicatedMachine.objects.exists()
