"""Machines that this core protects or holds copies of."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any, Self

from django.db import models
from django.db.models import OuterRef, Q, Subquery
from django.urls import reverse
from django.utils import timezone

from agent.client.description import DescribedDisk, MachineDescription
from console.identity import this_core
from protected_machines.choices import (
    KINDS_OWNED_ELSEWHERE,
    KINDS_OWNED_HERE,
    LIVE_KINDS,
    ConnectionState,
    MachineKind,
)
from protected_machines.models.descriptions import read_description
from protected_machines.models.points import RecoveryPoint

# What the columns of a machine's VM hold while it runs in none.
NO_VM: dict[str, Any] = {
    "vcenter": None,
    "vm_moid": "",
    "vm_instance_uuid": "",
    "vm_name": "",
    "vm_marker": "",
}


class MachineQuerySet(models.QuerySet["Machine"]):
    """Many machines."""

    def owned_here(self) -> Self:
        """Machines that this core owns."""
        return self.filter(owner_core_id=this_core().id)

    def live(self) -> Self:
        """Machines whose agent this core contacts: owned here and running."""
        return self.owned_here().filter(kind__in=LIVE_KINDS)

    def undisputed(self) -> Self:
        """Machines of which no other core says that it owns them."""
        return self.filter(claim_core_id=None)

    def with_owner_trouble(self) -> Self:
        """Machines whose owner is disputed, or contradicts their kind; see `ownership.py`."""
        is_here = Q(owner_core_id=this_core().id)
        return self.filter(
            Q(claim_core_id__isnull=False)
            | (is_here & Q(kind__in=KINDS_OWNED_ELSEWHERE))
            | (~is_here & Q(kind__in=KINDS_OWNED_HERE))
        )

    def with_newest_point(self) -> Self:
        """Add `newest_point_id`, `newest_point_at`, `newest_point_state` (null without points)."""
        newest = RecoveryPoint.objects.filter(machine=OuterRef("pk")).newest_first()
        return self.annotate(
            newest_point_id=Subquery(newest.values("pk")[:1]),
            newest_point_at=Subquery(newest.values("taken_at")[:1]),
            newest_point_state=Subquery(newest.values("state")[:1]),
        )

    def with_last_success(self) -> Self:
        """Add `last_success_at`: when this core last completed a point of the machine itself."""
        own = RecoveryPoint.objects.filter(
            machine=OuterRef("pk"), taken_by_core_id=this_core().id
        ).newest_first()
        return self.annotate(last_success_at=Subquery(own.values("indexed_at")[:1]))

    def for_navigation(self) -> Self:
        """Only what the left navigation shows."""
        return self.only(
            "id",
            "name",
            "kind",
            "connection_state",
            "is_paused",
            "owner_core_id",
            "claim_core_id",
        ).order_by("name", "id")


class Machine(models.Model):
    """A computer whose recovery points this core takes or holds copies of.

    Kinds::

        (protect)            → protected
        (first replica)      → replicated
        replicated           → pending_failover   (Fail Over begins: this core takes ownership)
        pending_failover     → failed_over        (its agent answers here: protect_here)
        pending_failover     → replicated         (the failover is undone)
        failed_over          → pending_failback   (Start Failback: it still runs here)
        pending_failback     → failed_over        (the failback is undone, or rolled back)
        pending_failback     → failed_back        (handed over: its source owns it, the VM is off)
        failed_back          → replicated         (Commit: the VM is removed)
        failed_back          → pending_failback   (Roll back begins: this core takes ownership)
        replicated           → recovery_points_only   (the relationship is deleted, the points stay)

    Connection states (of the agent, as this core last saw it)::

        unknown → online ⇄ unreachable
        online, unreachable ⇄ authentication_error   (certificate changed, or this core refused)

    Only the owner may take or prune the machine's points, or replicate them. The ownership epoch
    rises with every change of owner and never falls. While another core claims the machine without
    the owner's leave, it is *disputed* and nobody acts on it.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=200)
    host = models.CharField(max_length=253, blank=True)
    port = models.PositiveIntegerField(default=8006)
    kind = models.CharField(
        max_length=32, choices=MachineKind.choices, default=MachineKind.PROTECTED
    )
    agent_certificate_pem = models.TextField(blank=True)
    # Of the delegations that this core issues. The agent can be told to reject lower numbers.
    delegation_number = models.PositiveIntegerField(default=1)
    # How the agent last described the machine: disks, NICs, firmware, drivers, trusted cores.
    description = models.JSONField(default=dict, blank=True)

    owner_core_id = models.UUIDField()
    owner_core_name = models.CharField(max_length=200)
    ownership_epoch = models.PositiveBigIntegerField(default=1)
    owned_since = models.DateTimeField(default=timezone.now)
    # A claim that disputes the owner, and the core that it was heard from; null if there is none.
    claim_core_id = models.UUIDField(null=True, blank=True)
    claim_core_name = models.CharField(max_length=200, blank=True, default="")
    claim_epoch = models.PositiveBigIntegerField(null=True, blank=True)
    claim_owned_since = models.DateTimeField(null=True, blank=True)
    claim_speaker_id = models.UUIDField(null=True, blank=True)
    claim_speaker_name = models.CharField(max_length=200, blank=True, default="")
    claim_heard_at = models.DateTimeField(null=True, blank=True)
    # The core that replicates the machine to this one; null for a machine first protected here.
    source_core_id = models.UUIDField(null=True, blank=True)

    is_paused = models.BooleanField(default=False)
    snapshot_interval_seconds = models.PositiveIntegerField(default=3600)
    # When a snapshot was last attempted, so that a failing machine is not retried at once.
    snapshot_tried_at = models.DateTimeField(null=True, blank=True)

    connection_state = models.CharField(
        max_length=32, choices=ConnectionState.choices, default=ConnectionState.UNKNOWN
    )
    connection_error = models.TextField(blank=True)
    connection_checked_at = models.DateTimeField(null=True, blank=True)
    last_seen_at = models.DateTimeField(null=True, blank=True)

    # The VM that the machine runs in after a failover as vSphere knows it, and the marker that this
    # core gave it. Copies of it have the marker, too.
    vcenter = models.ForeignKey(
        "VCenter", null=True, blank=True, on_delete=models.PROTECT, related_name="machines"
    )
    vm_moid = models.CharField(max_length=100, blank=True)
    vm_instance_uuid = models.CharField(max_length=100, blank=True)
    vm_name = models.CharField(max_length=200, blank=True)
    vm_marker = models.CharField(max_length=100, blank=True)

    created_at = models.DateTimeField(default=timezone.now)

    objects = MachineQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]
        indexes = [
            models.Index(fields=["kind", "name"], name="machine_kind_name"),
            models.Index(fields=["owner_core_id", "kind"], name="machine_owner_kind"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["name"],
                condition=Q(source_core_id__isnull=True),
                name="machine_name_unique_when_first_protected_here",
                violation_error_message="A machine with this name is already protected here.",
            ),
            models.UniqueConstraint(
                fields=["host", "port"],
                condition=Q(kind=MachineKind.PROTECTED),
                name="machine_agent_protected_once",
                violation_error_message="The machine at this address is already protected.",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=MachineKind.values), name="machine_kind_is_known"
            ),
            models.CheckConstraint(
                condition=Q(connection_state__in=ConnectionState.values),
                name="machine_connection_state_is_known",
            ),
            models.CheckConstraint(
                condition=Q(port__gte=1, port__lte=65535), name="machine_port_in_range"
            ),
            models.CheckConstraint(
                condition=Q(snapshot_interval_seconds__gte=1), name="machine_interval_positive"
            ),
            models.CheckConstraint(
                condition=~Q(kind__in=list(LIVE_KINDS), host=""),
                name="machine_live_has_an_address",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("protected_machines:machine", args=[self.pk])

    @property
    def is_owned_here(self) -> bool:
        """Whether this core owns the machine, by this row."""
        return str(self.owner_core_id) == this_core().id

    @property
    def is_disputed(self) -> bool:
        """Whether another core claims the machine without the owner's leave."""
        return self.claim_core_id is not None

    @property
    def is_live(self) -> bool:
        """Whether this core may ask the machine's agent for recovery points."""
        return self.kind in LIVE_KINDS and self.is_owned_here

    @property
    def described(self) -> MachineDescription:
        """The machine as its agent last described it."""
        return read_description(self.description)

    @property
    def disks(self) -> tuple[DescribedDisk, ...]:
        """The disks as the agent reports them; those without a size are left out."""
        return tuple(disk for disk in self.described.disks if disk.capacity_bytes)

    @property
    def memory_bytes(self) -> int | None:
        """The memory; none if the agent does not report it."""
        return self.described.memory_bytes or None

    @property
    def cpus(self) -> int | None:
        """The number of CPUs; none if the agent does not report it."""
        return self.described.cpus or None

    def next_snapshot_at(self, last_success_at: datetime | None) -> datetime | None:
        """Return when the schedule takes the next point; none if it takes none."""
        if not self.is_live or self.is_paused or self.is_disputed:
            return None
        now = timezone.now()
        if last_success_at is None or last_success_at > now:
            return now
        return last_success_at + timedelta(seconds=self.snapshot_interval_seconds)

    def set_paused(self, is_paused: bool) -> bool:
        """Pause or resume the schedule; return whether this call changed it."""
        changed = Machine.objects.filter(pk=self.pk, is_paused=not is_paused).update(
            is_paused=is_paused
        )
        self.is_paused = is_paused
        return bool(changed)

    def record_connection(
        self, state: ConnectionState, error: str = "", now: datetime | None = None
    ) -> None:
        """Save how the last call to the agent went."""
        now = now or timezone.now()
        changes: dict[str, Any] = {
            "connection_state": state,
            "connection_error": error,
            "connection_checked_at": now,
        }
        if state == ConnectionState.ONLINE:
            changes["last_seen_at"] = now
        Machine.objects.filter(pk=self.pk).update(**changes)
        for name, value in changes.items():
            setattr(self, name, value)

    def record_description(self, description: MachineDescription) -> None:
        """Save how the agent describes the machine now."""
        self.description = description.to_json()
        Machine.objects.filter(pk=self.pk).update(description=self.description)
