"""A failback ordered without a page: the same checks, the same refusals, the same start."""

import dataclasses
import io
import uuid

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from console.jobs.models import Job
from protected_machines.models import Machine
from replication.errors import FailbackRefused
from replication.failback.check import check_failback
from replication.failback.draft import draft_failback
from replication.failback.order import FailbackOrder, MachineOrder, RescueAddress
from replication.failback.start import start_failback
from replication.models import Failback, ReplicatedMachine
from tests.factories import make_machine
from tests.places.agent import RESCUE_CODE, RunningAgent
from tests.replication.rows import make_replicated


@pytest.fixture
def order(running_here: ReplicatedMachine, rescue: RunningAgent) -> FailbackOrder:
    return FailbackOrder(
        running_here.pairing_id,
        (
            MachineOrder(
                running_here.machine_id, RescueAddress("127.0.0.1", rescue.port, RESCUE_CODE)
            ),
        ),
        reason="The site is repaired.",
    )


def refusal_of(order: FailbackOrder) -> str:
    """Why the order is refused when it is started; nothing may have begun then."""
    with pytest.raises(FailbackRefused) as refused:
        start_failback(order, None)
    assert not Failback.objects.exists()
    assert not Job.objects.filter(kind="failback").exists()
    return refused.value.text


def test_an_order_starts_a_failback_once(order: FailbackOrder) -> None:
    failback = start_failback(order, None)
    assert start_failback(order, None) == failback
    assert failback.reason == "The site is repaired."
    assert failback.machines.get().quote["send_points"] == 5
    assert Job.objects.filter(kind="failback").count() == 1


@pytest.mark.parametrize("days", [0, 91])
def test_days_that_no_form_has_bounded_are_refused(order: FailbackOrder, days: int) -> None:
    assert "1 to 90 days" in refusal_of(dataclasses.replace(order, commit_days=days))


def test_a_machine_without_a_rescue_machine_is_refused(
    order: FailbackOrder, running_here: ReplicatedMachine
) -> None:
    unnamed = dataclasses.replace(order, machines=(MachineOrder(running_here.machine_id),))
    assert "from the rescue medium" in refusal_of(unnamed)


def test_two_machines_onto_one_rescue_machine_are_refused(
    order: FailbackOrder, running_here: ReplicatedMachine
) -> None:
    second = make_replicated(
        running_here.pairing,
        make_machine(
            name="web-01",
            host="192.0.2.9",
            kind="failed_over",
            source_core_id=running_here.pairing.peer_core_id,
        ),
    )
    both = (*order.machines, MachineOrder(second.machine_id, order.machines[0].rescue))
    check = check_failback(dataclasses.replace(order, machines=both), timezone.now())
    for machine in check.machines:
        assert "FAILBACK-TARGET-TWICE" in [finding.code for finding in machine.findings]


def test_what_is_not_known_is_refused(order: FailbackOrder) -> None:
    assert refusal_of(dataclasses.replace(order, machines=())) == "Select at least one machine."
    strange = dataclasses.replace(order, machines=(MachineOrder(uuid.uuid4()),))
    assert "shares no machine" in refusal_of(strange)
    assert "No source core" in refusal_of(dataclasses.replace(order, pairing_id=uuid.uuid4()))


@pytest.mark.parametrize("kind", ["failed_over", "pending_failback", "failed_back"])
@pytest.mark.parametrize("connection_state", ["online", "unreachable"])
def test_the_dialog_refuses_exactly_what_an_order_is_refused_for(
    order: FailbackOrder, running_here: ReplicatedMachine, kind: str, connection_state: str
) -> None:
    Machine.objects.filter(pk=running_here.machine_id).update(
        kind=kind, connection_state=connection_state
    )
    key, rescue = str(running_here.machine_id), order.machines[0].rescue
    assert rescue is not None
    sent = {
        f"{key}-is_chosen": "on",
        f"{key}-host": rescue.host,
        f"{key}-port": str(rescue.port),
        f"{key}-code": rescue.code,
        "commit_days": str(order.commit_days or ""),
        "reason": order.reason,
        "request_id": str(order.request_id),
    }
    row = ReplicatedMachine.objects.select_related("machine", "pairing").get(pk=running_here.pk)
    draft = draft_failback(row.pairing, timezone.now(), sent, only=row)
    assert draft.refusal == check_failback(order, timezone.now()).refusal
    assert draft.order == order
    assert bool(draft.refusal) == ((kind, connection_state) != ("failed_over", "online"))


def test_the_command_says_the_quote_and_starts(
    order: FailbackOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = ReplicatedMachine.objects.select_related("machine", "pairing").get()
    rescue = order.machines[0].rescue
    assert rescue is not None
    arguments = [row.pairing.peer_name, f"{row.machine.name}=127.0.0.1:{rescue.port}"]
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{RESCUE_CODE}\n" * 3))
    said = io.StringIO()
    call_command("fail_back", *arguments, "--check", stdout=said)
    assert "to send" in said.getvalue()
    assert not Failback.objects.exists()
    with pytest.raises(CommandError, match="Say why"):
        call_command("fail_back", *arguments, stdout=said)
    assert not Failback.objects.exists()
    why = ("--reason", "The site is repaired.")
    call_command("fail_back", *arguments, "--commit-days", "3", *why, stdout=said)
    assert Failback.objects.get().commit_days == 3
    assert Job.objects.get(kind="failback").reason == "The site is repaired."


def test_the_command_stops_at_what_blocks(
    order: FailbackOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = ReplicatedMachine.objects.select_related("machine", "pairing").get()
    monkeypatch.setattr("sys.stdin", io.StringIO("WRONG-CODE\n"))
    rescue = order.machines[0].rescue
    assert rescue is not None
    said = io.StringIO()
    with pytest.raises(CommandError, match=row.machine.name):
        call_command(
            "fail_back",
            row.pairing.peer_name,
            f"{row.machine.name}=127.0.0.1:{rescue.port}",
            stdout=said,
        )
    assert "blocks: " in said.getvalue()
    assert not Failback.objects.exists()


@pytest.mark.parametrize(
    ("source", "named", "text"),
    [
        ("Nowhere", "db-01=192.0.2.1", "No source core named Nowhere"),
        ("", "mail-01=192.0.2.1", "no machine named mail-01"),
        ("", "db-01", "NAME=ADDRESS"),
    ],
)
def test_the_command_names_what_it_does_not_know(
    running_here: ReplicatedMachine, source: str, named: str, text: str
) -> None:
    with pytest.raises(CommandError, match=text):
        call_command("fail_back", source or running_here.pairing.peer_name, named)
