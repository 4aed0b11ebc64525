"""A person settles who owns a machine: by the dialog, and from a shell."""

import uuid
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from console.identity import this_core
from console.jobs.choices import JobState
from console.jobs.models import Job
from protected_machines import ownership, settling
from protected_machines.choices import MachineKind
from protected_machines.claims import OwnershipClaim, Speaker
from protected_machines.errors import ClaimNotSettled
from protected_machines.models import Machine
from protected_machines.readiness import owner_readiness
from protected_machines.settlements import Choice, possible_settlements
from tests.factories import NOON, make_machine, make_recovery_point, make_vcenter
from tests.places.agent import RunningAgent
from tests.reading import as_read

pytestmark = pytest.mark.django_db

HQ, DR = uuid.uuid4(), uuid.uuid4()
NAMES = {HQ: "Headquarters", DR: "DR site"}
FRAGMENT = {"HX-Request": "true"}


def make_disputed(by: uuid.UUID = HQ, epoch: int = 5, **changes: Any) -> Machine:
    machine = make_machine(**{"name": "db-01", "ownership_epoch": 2, **changes})
    speaker = Speaker(str(by), NAMES[by], shares_machine=False, may_take_over=False)
    ownership.hear_claim(machine, OwnershipClaim(str(by), NAMES[by], epoch, NOON), speaker)
    assert machine.is_disputed
    return machine


def make_failed_over(**changes: Any) -> Machine:
    return make_machine(
        **{
            "name": "db-01",
            "kind": MachineKind.FAILED_OVER,
            "ownership_epoch": 2,
            "source_core_id": HQ,
            "vcenter": make_vcenter(),
            "vm_name": "db-01-vm",
            "vm_moid": "vm-7",
            "vm_marker": "marker",
            **changes,
        }
    )


def make_owned_copy(**changes: Any) -> Machine:
    """A replica that this core owns: its database is older than its failover."""
    machine = make_machine(
        name="db-01",
        kind=MachineKind.REPLICATED,
        ownership_epoch=2,
        source_core_id=HQ,
        **changes,
    )
    make_recovery_point(machine, taken_by_core_id=HQ, taken_by_core_name="Headquarters")
    return machine


def choices_of(machine: Machine) -> list[str]:
    return [one.choice.value for one in possible_settlements(machine)]


def url_of(machine: Machine) -> str:
    return reverse("protected_machines:owner-settle", args=[machine.pk])


def values_for(client: Client, machine: Machine, choice: Choice, **changes: Any) -> dict[str, Any]:
    """What someone enters who has just opened the dialog."""
    form = client.get(url_of(machine)).context["form"]
    values = {"choice": choice.value, "typed_name": machine.name, "seen": form.initial["seen"]}
    return {**values, **changes}


def test_a_disputed_machine_can_be_kept_or_left_to_the_other_core() -> None:
    assert choices_of(make_machine()) == []
    assert choices_of(make_disputed()) == ["here", "elsewhere"]


def test_this_core_claims_it_with_an_epoch_above_the_other_claim() -> None:
    machine = make_disputed()
    settling.settle(machine, Choice.HERE)
    assert (machine.is_owned_here, machine.ownership_epoch, machine.is_disputed) == (True, 6, False)
    assert machine.kind == MachineKind.PROTECTED
    ownership.check_owner(machine)


def test_the_claim_of_the_other_core_is_accepted() -> None:
    machine = make_disputed()
    settling.settle(machine, Choice.ELSEWHERE)
    assert (machine.owner_core_id, machine.ownership_epoch) == (HQ, 5)
    assert (machine.owned_since, machine.is_disputed) == (NOON, False)
    # It still says that it was protected here; its owner protects it now.
    assert machine.kind == MachineKind.PROTECTED


def test_a_machine_that_failed_over_becomes_a_replica_and_its_vm_is_left_as_it_is() -> None:
    machine = make_failed_over()
    speaker = Speaker(str(HQ), "Headquarters", shares_machine=True, may_take_over=False)
    claim = OwnershipClaim(str(HQ), "Headquarters", 5, NOON)
    ownership.hear_claim(machine, claim, speaker)
    assert "power it off in vSphere by hand" in possible_settlements(machine)[1].text
    settling.settle(machine, Choice.ELSEWHERE)
    machine.refresh_from_db()
    assert (machine.kind, machine.vm_name, machine.vcenter) == (MachineKind.REPLICATED, "", None)
    assert ownership.ownership_trouble(machine) is None


def test_a_replica_whose_owner_is_disputed_is_not_claimed_by_the_core_with_the_copy() -> None:
    machine = make_disputed(
        kind=MachineKind.REPLICATED,
        owner_core_id=HQ,
        owner_core_name="Headquarters",
        source_core_id=HQ,
        by=DR,
    )
    assert choices_of(machine) == ["keep", "elsewhere"]
    with pytest.raises(ClaimNotSettled, match="cannot be settled like this"):
        settling.settle(machine, Choice.HERE)
    with pytest.raises(CommandError, match=r"choose Fail Over\. \[MACHINE-CLAIM-NOT-SETTLED\]"):
        call_command("claim_machine", "db-01")
    settling.settle(machine, Choice.KEEP)
    assert (machine.owner_core_id, machine.ownership_epoch) == (HQ, 2)
    assert not machine.is_disputed


def test_no_snapshot_is_due_of_a_disputed_machine() -> None:
    assert make_machine().next_snapshot_at(None) is not None
    assert make_disputed().next_snapshot_at(None) is None


def test_a_claim_by_a_higher_epoch_than_any_can_be_does_not_end_the_epochs() -> None:
    from protected_machines.claims import EPOCH_LIMIT

    machine = make_disputed(epoch=EPOCH_LIMIT)
    settling.settle(machine, Choice.HERE)
    assert machine.ownership_epoch == 3


def test_an_owned_copy_is_given_back_to_its_source() -> None:
    machine = make_owned_copy()
    assert choices_of(machine) == ["here", "elsewhere"]
    settling.settle(machine, Choice.ELSEWHERE)
    assert (machine.owner_core_id, machine.owner_core_name) == (HQ, "Headquarters")
    assert (machine.ownership_epoch, machine.kind) == (3, MachineKind.REPLICATED)
    assert ownership.ownership_trouble(machine) is None


def test_what_runs_here_under_another_owner_is_protected_here_or_given_up() -> None:
    elsewhere = {"owner_core_id": HQ, "owner_core_name": "Headquarters"}
    machine = make_failed_over(**elsewhere)
    assert choices_of(machine) == ["here", "elsewhere"]
    settling.settle(machine, Choice.HERE)
    assert (machine.is_owned_here, machine.ownership_epoch) == (True, 3)
    assert machine.kind == MachineKind.FAILED_OVER
    Machine.objects.filter(pk=machine.pk).update(**elsewhere)
    machine.refresh_from_db()
    settling.settle(machine, Choice.ELSEWHERE)
    assert (machine.owner_core_id, machine.ownership_epoch) == (HQ, 3)
    assert machine.kind == MachineKind.REPLICATED


def test_an_owned_copy_is_protected_where_its_agent_answers(
    admin_client: Client, agent: RunningAgent, machine: Machine
) -> None:
    Machine.objects.update(kind=MachineKind.REPLICATED, source_core_id=HQ, host="", port=1)
    values = values_for(admin_client, machine, Choice.HERE)
    refused = admin_client.post(url_of(machine), values)
    assert refused.status_code == 422
    assert "Enter where the machine&#x27;s agent answers here." in refused.content.decode()
    answers = {"host": "127.0.0.1", "port": agent.port}
    agent.kill()
    refused = admin_client.post(url_of(machine), {**values, **answers})
    assert (refused.status_code, "AGENT-" in refused.content.decode()) == (422, True)
    assert Machine.objects.get().kind == MachineKind.REPLICATED
    agent.start()
    assert admin_client.post(url_of(machine), {**values, **answers}).status_code == 303
    found = Machine.objects.get()
    assert (found.kind, found.is_live) == (MachineKind.FAILED_OVER, True)
    assert (found.host, found.port) == ("127.0.0.1", agent.port)


def test_from_a_shell_the_other_core_s_claim_is_accepted() -> None:
    make_disputed()
    call_command("accept_claim", "db-01")
    assert Machine.objects.get().owner_core_id == HQ
    with pytest.raises(CommandError, match=r"nothing to accept\. \[MACHINE-CLAIM-NOT-SETTLED\]"):
        call_command("accept_claim", "db-01")
    make_machine(name="db-01", source_core_id=HQ)
    with pytest.raises(CommandError, match="several machines named db-01"):
        call_command("accept_claim", "db-01")


def test_a_claim_that_has_changed_meanwhile_is_not_accepted() -> None:
    machine = make_disputed()
    Machine.objects.update(claim_epoch=7)
    with pytest.raises(ClaimNotSettled, match="has just changed"):
        settling.accept_claim(machine)
    assert Machine.objects.get().is_disputed


def test_a_machine_that_a_job_holds_is_not_settled() -> None:
    machine = make_disputed()
    Job.objects.create(
        kind="failover",
        title="Failover",
        subject_id=machine.pk,
        subject_name=machine.name,
        is_exclusive=True,
        plan_version=1,
        queue="control",
        params={},
        state=JobState.RUNNING,
    )
    with pytest.raises(ClaimNotSettled, match=r"A job \(failover\) holds db-01"):
        settling.accept_claim(machine)


def test_the_dialog_shows_both_claims_and_what_each_choice_does(admin_client: Client) -> None:
    machine = make_disputed()
    assert admin_client.get(url_of(make_machine())).status_code == 409
    page = as_read(admin_client.get(url_of(machine)))
    assert "Headquarters, epoch 5" in page
    assert f"{this_core().name} (this core), epoch 2" in page
    assert "It claims the machine with a higher epoch than Headquarters does." in page
    assert "It does not run here." in page
    fragment = admin_client.get(url_of(machine), headers=FRAGMENT).content.decode()
    assert 'id="settle-owner"' in fragment
    assert "<html" not in fragment
    assert Client().get(url_of(machine)).status_code == 302


def test_the_name_has_to_be_typed_and_a_choice_to_be_made(admin_client: Client) -> None:
    machine = make_disputed()
    values = values_for(admin_client, machine, Choice.ELSEWHERE)
    for wrong in ({"typed_name": "web-01"}, {"choice": ""}, {"choice": "keep"}, {"seen": "x"}):
        response = admin_client.post(url_of(machine), {**values, **wrong})
        assert response.status_code == 422, wrong
        assert Machine.objects.get().is_disputed
    assert admin_client.post(url_of(machine), values).status_code == 303
    assert not Machine.objects.get().is_disputed


def test_a_dialog_older_than_the_claim_settles_nothing(admin_client: Client) -> None:
    machine = make_disputed()
    values = values_for(admin_client, machine, Choice.HERE)
    Machine.objects.update(claim_epoch=7)
    response = admin_client.post(url_of(machine), values)
    assert response.status_code == 422
    assert "Something has changed since this dialog was opened" in response.content.decode()


@pytest.mark.parametrize("make", [make_disputed, make_owned_copy], ids=["disputed", "copy"])
def test_every_page_says_so_and_nobody_acts(admin_client: Client, make: Any) -> None:
    machine = make()
    label = "Owner disputed" if machine.is_disputed else "Owner contradictory"
    for url in ("/machines/", machine.get_absolute_url()):
        page = as_read(admin_client.get(url))
        assert label in page
        assert "Someone has to settle who owns a machine" in page
        assert f"MACHINE-OWNERSHIP-{label.split()[1].upper()}" in page
    assert "Settle Owner" in as_read(admin_client.get(machine.get_absolute_url()))
    home = as_read(admin_client.get("/"))
    assert "Not recoverable" in home
    assert "then choose Settle Owner" in home
    (entry,) = owner_readiness(NOON)
    assert (entry.machine_id, entry.headline) == (machine.pk, label)
    for act in ("pause", "snapshot"):
        response = admin_client.post(f"{machine.get_absolute_url()}{act}/")
        assert response.status_code == 409
        assert "Settle Owner" in response.content.decode()
