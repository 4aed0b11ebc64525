"""A machine that restarts with another address is shown there, and protected there by a person."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from agent.client import MachineDescription
from protected_machines.agents.connection import refresh_connection
from protected_machines.models import Announcement, Machine
from tests.places.agent import RunningAgent

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(admin_user: Any) -> Client:
    client = Client()
    client.force_login(admin_user)
    return client


@pytest.fixture
def moved(machine: Machine, agent: RunningAgent) -> Machine:
    """A machine whose agent answers at its announced address only."""
    Machine.objects.filter(pk=machine.pk).update(host="127.0.0.2", port=1)
    now = timezone.now()
    Announcement.objects.create(
        machine=machine,
        boot_id="boot-2",
        addresses=["127.0.0.1", "192.0.2.7"],
        port=agent.port,
        first_heard_at=now,
        heard_at=now,
    )
    machine.refresh_from_db()
    refresh_connection(machine)
    return machine


def find(client: Client, machine: Machine) -> Any:
    return client.post(reverse("protected_machines:machine-find", args=[machine.pk]))


def page(client: Client, machine: Machine) -> str:
    return client.get(machine.get_absolute_url()).content.decode()


def test_a_machine_is_protected_where_it_answers(
    client: Client, moved: Machine, agent: RunningAgent
) -> None:
    assert "127.0.0.1, 192.0.2.7" in page(client, moved)
    assert find(client, moved).status_code == 303
    moved.refresh_from_db()
    assert (moved.host, moved.port, moved.connection_state) == ("127.0.0.1", agent.port, "online")
    assert "announced itself from elsewhere" not in page(client, moved)


def test_nothing_changes_by_itself(moved: Machine) -> None:
    refresh_connection(moved)
    moved.refresh_from_db()
    assert (moved.host, moved.port) == ("127.0.0.2", 1)


def test_a_copy_of_the_machine_is_not_taken_for_it(client: Client, moved: Machine) -> None:
    """It has the certificate, but other network cards."""
    if not MachineDescription.from_json(moved.description).nics:
        moved.description = {**moved.description, "nics": []}
    nics = [{"name": "eth0", "mac": "02:00:00:00:00:01", "driver": "", "addresses": []}]
    Machine.objects.filter(pk=moved.pk).update(description={**moved.description, "nics": nics})
    has_cards = bool(MachineDescription.from_json(moved.description).nics)
    answer = find(client, moved)
    assert answer.status_code == (409 if has_cards else 303)


def test_an_agent_that_does_not_answer_changes_nothing(
    client: Client, moved: Machine, agent: RunningAgent
) -> None:
    agent.kill()
    answer = find(client, moved)
    assert answer.status_code == 409
    assert "stays where it was" in answer.content.decode()
    moved.refresh_from_db()
    assert (moved.host, moved.port) == ("127.0.0.2", 1)


def test_a_machine_that_is_online_where_it_is_says_nothing(
    client: Client, moved: Machine, agent: RunningAgent
) -> None:
    Machine.objects.filter(pk=moved.pk).update(host="127.0.0.3", connection_state="online")
    assert "announced itself from elsewhere" not in page(client, moved)
