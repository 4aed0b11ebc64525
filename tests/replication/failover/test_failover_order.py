"""A failover ordered without a page: the same checks, the same refusals, the same start."""

import dataclasses
import io
import uuid

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from console.findings import Severity
from console.jobs.models import Job
from protected_machines.choices import PointState
from protected_machines.exports.check import check_macs
from protected_machines.exports.options import CPUS_LIMIT, MIB
from protected_machines.models import Machine, RecoveryPoint, VCenter
from protected_machines.models.descriptions import read_description
from protected_machines.points.proofs import get_manifest
from replication.errors import FailoverRefused
from replication.failover.check import FailoverFacts, check_failover, propose
from replication.failover.destination import PlacementQuestion, survey_vcenter
from replication.failover.draft import draft_failover
from replication.failover.order import Destination, FailoverOrder
from replication.failover.start import start_failover
from replication.models import Failover, ReplicatedMachine
from tests.replication.rows import make_replica, make_replicated
from vsphere import VmSpace


@pytest.fixture
def order(replica: ReplicatedMachine, vcenter: VCenter) -> FailoverOrder:
    """What the dialog would propose, as an order that names everything."""
    proposed = FailoverOrder(
        replica.pairing_id,
        Destination(),
        (propose(replica, FailoverFacts(replica.pairing, [replica])),),
        reason="The site burns.",
    )
    return check_failover(proposed, timezone.now(), takes_defaults=True).order


def refusal_of(order: FailoverOrder) -> str:
    """Why the order is refused when it is started; nothing may have begun then."""
    with pytest.raises(FailoverRefused) as refused:
        start_failover(order, None)
    assert not Failover.objects.exists()
    assert not Job.objects.exists()
    return refused.value.text


def with_machine(order: FailoverOrder, **changes: object) -> FailoverOrder:
    (machine,) = order.machines
    return dataclasses.replace(order, machines=(dataclasses.replace(machine, **changes),))  # type: ignore[arg-type]


def test_an_order_starts_a_failover(order: FailoverOrder) -> None:
    failover = start_failover(order, None)
    assert failover.reason == "The site burns."
    (entry,) = failover.machines.all()
    assert entry.point_id == order.machines[0].point_id
    assert entry.chosen["datastore"] == "LocalDS_0"
    assert entry.chosen["folder"] == "vm"
    job = Job.objects.get()
    assert job.group_id == failover.pk
    assert job.params["options"]["folder"] == order.destination.folder != ""


def test_mac_addresses_are_kept_on_request_and_said_where_not(order: FailoverOrder) -> None:
    point = RecoveryPoint.objects.get(pk=order.machines[0].point_id)
    wanted = with_machine(order, keeps_macs=True)
    description = read_description(get_manifest(point.machine_id, point.pk).description)
    expected = [finding.code for finding in check_macs(description, True)]
    (checked,) = check_failover(wanted, timezone.now()).machines
    codes = [finding.code for finding in checked.findings]
    assert codes.count("EXPORT-MAC-NOT-KEPT") == len(expected)
    start_failover(wanted, None)
    assert Job.objects.get().params["options"]["keeps_macs"] is True


def test_an_order_without_a_folder_takes_the_datacenter_s_own(order: FailoverOrder) -> None:
    destination = dataclasses.replace(order.destination, folder="")
    assert start_failover(dataclasses.replace(order, destination=destination), None)


def test_an_order_given_twice_starts_one_failover(order: FailoverOrder) -> None:
    assert start_failover(order, None) == start_failover(order, None)
    assert Job.objects.count() == 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"vm_name": ""}, "A VM name must have 1 to 80 characters"),
        ({"vm_name": "x" * 81}, "A VM name must have 1 to 80 characters"),
        ({"cpus": 0}, f"A VM can have 1 to {CPUS_LIMIT} CPUs, not 0."),
        ({"memory_bytes": 3 * MIB}, "in steps of 4 MiB"),
        ({"memory_bytes": 512 * MIB + 1}, "in steps of 4 MiB"),
        ({"point_id": None}, "there is nothing to start from"),
        ({"point_id": uuid.uuid4()}, "there is nothing to start from"),
    ],
)
def test_what_no_form_has_bounded_is_refused(
    order: FailoverOrder, change: dict[str, object], text: str
) -> None:
    assert text in refusal_of(with_machine(order, **change))


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("datacenter", "datacenter"),
        ("compute", "resource pool or host"),
        ("folder", "VM folder"),
        ("datastore", "datastore"),
        ("network", "network"),
    ],
)
def test_a_destination_that_is_not_offered_is_refused(
    order: FailoverOrder, name: str, title: str
) -> None:
    changed = dataclasses.replace(order.destination, **{name: "pool:nothing-999"})  # type: ignore[arg-type]
    text = refusal_of(dataclasses.replace(order, destination=changed))
    assert f"no longer offers the chosen {title}" in text


def test_machines_that_would_have_one_name_are_refused(
    order: FailoverOrder, replica: ReplicatedMachine
) -> None:
    other = make_replicated(replica.pairing, make_replica(replica.pairing, name="web-01"))
    (machine,) = order.machines
    both = (machine, dataclasses.replace(machine, machine_id=other.machine_id))
    check = check_failover(dataclasses.replace(order, machines=both), timezone.now())
    for checked in check.machines:
        assert "FAILOVER-VM-NAME-TWICE" in [finding.code for finding in checked.findings]


@pytest.mark.parametrize(
    ("data_bytes", "severity"), [(100 << 30, Severity.WARNING), (600 << 30, Severity.ERROR)]
)
def test_machines_that_together_outgrow_the_datastore_are_found(
    order: FailoverOrder, vcenter: VCenter, data_bytes: int, severity: Severity
) -> None:
    """They are refused only if not even what they hold at first fits."""
    space = VmSpace(900 << 30, 1 << 30, lambda: data_bytes)
    questions = [PlacementQuestion(uuid.uuid4(), name, space) for name in ("web-01", "db-01")]
    survey = survey_vcenter(vcenter, order.destination, questions, takes_defaults=False)
    for question in questions:
        found = [(one.code, one.severity) for one in survey.findings[question.machine_id]]
        assert ("FAILOVER-SPACE-TOGETHER", severity) in found


def test_an_order_for_no_machine_is_refused(order: FailoverOrder) -> None:
    assert refusal_of(dataclasses.replace(order, machines=())) == "Select at least one machine."


def test_a_machine_that_is_not_replicated_here_is_refused(order: FailoverOrder) -> None:
    assert "does not replicate a machine" in refusal_of(
        with_machine(order, machine_id=uuid.uuid4())
    )


def test_an_unknown_source_core_is_refused(order: FailoverOrder) -> None:
    assert "No source core" in refusal_of(dataclasses.replace(order, pairing_id=uuid.uuid4()))


@pytest.mark.parametrize("state", PointState.values)
@pytest.mark.parametrize("has_certificate", [True, False])
@pytest.mark.parametrize("kind", ["replicated", "pending_failover", "failed_over"])
def test_the_dialog_refuses_exactly_what_an_order_is_refused_for(
    replica: ReplicatedMachine,
    order: FailoverOrder,
    state: str,
    has_certificate: bool,
    kind: str,
) -> None:
    RecoveryPoint.objects.filter(pk=order.machines[0].point_id).update(
        state=state, damage_text="disk0.vmdk differs" if state == PointState.DAMAGED else ""
    )
    Machine.objects.filter(pk=replica.machine_id).update(kind=kind)
    if not has_certificate:
        Machine.objects.filter(pk=replica.machine_id).update(agent_certificate_pem="")
    key, one, to = str(replica.machine_id), order.machines[0], order.destination
    sent = {
        f"{key}-is_chosen": "on",
        f"{key}-point": str(one.point_id),
        f"{key}-vm_name": one.vm_name,
        f"{key}-cpus": str(one.cpus),
        f"{key}-memory_mib": str(one.memory_bytes // MIB),
        "vcenter": str(to.vcenter_id),
        **{
            name: getattr(to, name)
            for name in ("datacenter", "compute", "folder", "datastore", "network")
        },
        "request_id": str(order.request_id),
    }
    row = ReplicatedMachine.objects.select_related("machine", "pairing").get(pk=replica.pk)
    draft = draft_failover(row.pairing, timezone.now(), sent, is_strict=True, only=row)
    assert draft.refusal == check_failover(order, timezone.now()).refusal
    if draft.is_valid():
        assert dataclasses.replace(draft.order, reason=order.reason) == order


def test_the_command_says_the_findings_and_starts(
    replica: ReplicatedMachine, vcenter: VCenter
) -> None:
    said = io.StringIO()
    call_command("fail_over", replica.pairing.peer_name, "--check", stdout=said)
    assert f"{replica.machine.name}: recovery point" in said.getvalue()
    with pytest.raises(CommandError, match="Say why"):
        call_command("fail_over", replica.pairing.peer_name, stdout=said)
    assert not Job.objects.exists()
    call_command("fail_over", replica.pairing.peer_name, "--reason", "The site burns.", stdout=said)
    assert Failover.objects.get().reason == "The site burns."
    assert (Job.objects.get().kind, Job.objects.get().reason) == ("failover", "The site burns.")


def test_the_command_stops_at_what_blocks(replica: ReplicatedMachine, vcenter: VCenter) -> None:
    Machine.objects.filter(pk=replica.machine_id).update(agent_certificate_pem="")
    said = io.StringIO()
    with pytest.raises(CommandError, match="never sent the certificate"):
        call_command(
            "fail_over",
            replica.pairing.peer_name,
            "--machine",
            replica.machine.name,
            stdout=said,
        )
    assert "blocks: " in said.getvalue()
    assert "FAILOVER-NO-AGENT-CERTIFICATE" in said.getvalue()
    assert not Failover.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["Nowhere"], "No source core named Nowhere"),
        (["Headquarters", "--machine", "mail-01"], "does not replicate a machine named mail-01"),
    ],
)
def test_the_command_names_what_it_does_not_know(
    replica: ReplicatedMachine, arguments: list[str], text: str
) -> None:
    with pytest.raises(CommandError, match=text):
        call_command("fail_over", *arguments)
