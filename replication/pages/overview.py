"""What the Replication page shows, gathered with a constant number of queries.

Cores come with totals over their machines; only machines that are shown are read.
"""

import datetime
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.db.models import (
    Count,
    DurationField,
    ExpressionWrapper,
    F,
    Max,
    Q,
    Sum,
    Window,
)
from django.db.models.functions import RowNumber
from django.urls import reverse

from console.identity import this_core
from console.jobs.choices import OPEN, JobState
from console.jobs.models import Job, in_order
from console.menus import MenuItem
from protected_machines.choices import MachineKind
from protected_machines.models import Machine
from replication.choices import FailbackState, MachineState
from replication.clocks import clock_text
from replication.models import FailbackMachine, Pairing, ReplicatedMachine, SeedDrive
from replication.pages.menus import core_menu, machine_menu
from replication.pages.states import (
    JOB_PAGES,
    MACHINE_TONES,
    WITHOUT_LAG,
    State,
    core_state,
    lag_text,
    machine_state,
    reason_of,
)

MACHINES_PER_PAGE = 25
_MACHINES_SHOWN_AT_MOST = 200
_SEED_DRIVES_SHOWN = 200
_OPENED_UP_TO_MACHINES = 10


@dataclass
class MachineRow:
    """One replicated machine on the page."""

    replicated: ReplicatedMachine
    state: State
    machine_state: MachineState
    lag_text: str
    menu: list[MenuItem]
    job: Job | None = None
    # The page of the failback that has not been committed yet; empty if there is none.
    failback_url: str = ""

    @property
    def has_lag(self) -> bool:
        """Whether the machine can be behind at all."""
        return self.machine_state not in WITHOUT_LAG

    @property
    def name(self) -> str:
        return self.replicated.machine.name

    @property
    def job_url(self) -> str:
        """The page of the job; failovers and failbacks have their own pages."""
        if self.job is None:
            return ""
        if self.job.group_id is None or self.job.kind not in JOB_PAGES:
            return self.job.get_absolute_url()
        return reverse(JOB_PAGES[self.job.kind], args=[self.job.group_id])


@dataclass
class CoreRow:
    """One core on the page, with totals over its machines and the machines shown."""

    pairing: Pairing
    state: State
    machine_count: int = 0
    failed_over_count: int = 0
    failed_back_count: int = 0
    elsewhere_count: int = 0
    trouble_count: int = 0
    last_synced_at: datetime.datetime | None = None
    lag_text: str = ""
    menu: list[MenuItem] = field(default_factory=list)
    machines: list[MachineRow] = field(default_factory=list)
    page_number: int = 1

    @property
    def clock_text(self) -> str:
        """What its clock is, such as `10 minutes ahead of this core's`; empty if it is right."""
        return clock_text(self.pairing.clock_ahead_seconds)

    @property
    def page_count(self) -> int:
        return max(1, -(-self.machine_count // MACHINES_PER_PAGE))

    @property
    def is_shown(self) -> bool:
        return bool(self.machines)

    @property
    def next_page(self) -> int:
        return self.page_number + 1 if self.page_number < self.page_count else 0

    @property
    def previous_page(self) -> int:
        return self.page_number - 1


@dataclass(frozen=True)
class Overview:
    """Both regions of the page."""

    outgoing: list[CoreRow]
    incoming: list[CoreRow]
    # The outstanding ones, newest first.
    seed_drives: list[SeedDrive]

    @property
    def cores(self) -> list[CoreRow]:
        return [*self.outgoing, *self.incoming]


def gather_overview(
    now: datetime.datetime, opened: uuid.UUID | None = None, page_number: int = 1
) -> Overview:
    """Return the cores with the machines that are shown.

    opened: the core whose machines are shown, at page `page_number`. Other cores show theirs only
        if they have few, so that the page stays bounded.
    """
    cores = [_core_row(pairing, now) for pairing in Pairing.objects.all()]
    by_id = {core.pairing.pk: core for core in cores}
    _add_sums(by_id)
    shown = _choose_shown(cores, opened, page_number)
    rows = list(_machine_rows(shown, by_id))
    jobs = _jobs_of(rows)
    failbacks = _uncommitted_failbacks(rows)
    seed_drives = list(
        SeedDrive.objects.outstanding().select_related(
            "replicated__machine", "replicated__pairing"
        )[:_SEED_DRIVES_SHOWN]
    )
    on_seed_drive = {drive.replicated_id for drive in seed_drives}
    core_id = this_core().id
    for replicated in rows:
        core = by_id[replicated.pairing_id]
        replicated.pairing = core.pairing
        failback_id = failbacks.get(replicated.machine_id)
        core.machines.append(
            machine_row(replicated, jobs, core_id, now, failback_id, replicated.pk in on_seed_drive)
        )
    for core in cores:
        core.menu = core_menu(core.pairing, core.machine_count, core.failed_over_count)
    return Overview(
        outgoing=[core for core in cores if core.pairing.is_outgoing],
        incoming=[core for core in cores if not core.pairing.is_outgoing],
        seed_drives=seed_drives,
    )


def _core_row(pairing: Pairing, now: datetime.datetime) -> CoreRow:
    return CoreRow(pairing=pairing, state=core_state(pairing, now))


def _add_sums(cores: dict[uuid.UUID, CoreRow]) -> None:
    behind = ExpressionWrapper(
        F("newest_point_at") - F("last_point_at"), output_field=DurationField()
    )
    core_id = this_core().id
    failed_over = Q(
        machine__kind__in=[
            MachineKind.FAILED_OVER,
            MachineKind.PENDING_FAILOVER,
            MachineKind.PENDING_FAILBACK,
        ],
        machine__owner_core_id=core_id,
    )
    sums = (
        ReplicatedMachine.objects.order_by()
        .values("pairing_id")
        .annotate(
            count=Count("pk"),
            failed_over=Count("pk", filter=failed_over),
            failed_back=Count("pk", filter=Q(machine__kind=MachineKind.FAILED_BACK)),
            elsewhere=Count("pk", filter=~Q(machine__owner_core_id=core_id)),
            troubled=Count(
                "pk",
                filter=~Q(error_code="")
                | Q(machine__in=Machine.objects.with_owner_trouble().values("pk")),
            ),
            synced_at=Max("last_synced_at"),
            points=Sum("behind_points"),
            waiting_bytes=Sum("behind_bytes"),
            behind=Max(behind, filter=Q(behind_points__gt=0)),
        )
    )
    for found in sums:
        core = cores[found["pairing_id"]]
        core.machine_count = found["count"]
        core.failed_over_count = found["failed_over"]
        core.failed_back_count = found["failed_back"]
        core.elsewhere_count = found["elsewhere"] if core.pairing.is_outgoing else 0
        core.trouble_count = found["troubled"]
        core.last_synced_at = found["synced_at"]
        core.lag_text = lag_text(
            found["points"] or 0,
            found["waiting_bytes"] or 0,
            found["behind"].total_seconds() if found["behind"] else 0.0,
        )


def _choose_shown(
    cores: list[CoreRow], opened: uuid.UUID | None, page_number: int
) -> dict[uuid.UUID, int]:
    """Return the cores whose machines are shown (the opened and small ones), each with its page."""
    shown: dict[uuid.UUID, int] = {}
    room = _MACHINES_SHOWN_AT_MOST
    for core in sorted(cores, key=lambda core: core.pairing.pk != opened):
        if core.pairing.pk == opened:
            core.page_number = min(max(1, page_number), core.page_count)
        elif core.machine_count > _OPENED_UP_TO_MACHINES or core.machine_count > room:
            continue
        room -= min(core.machine_count, MACHINES_PER_PAGE)
        shown[core.pairing.pk] = core.page_number
    return shown


def _machine_rows(
    shown: dict[uuid.UUID, int], cores: dict[uuid.UUID, CoreRow]
) -> Iterable[ReplicatedMachine]:
    turned = {key: number for key, number in shown.items() if number > 1}
    shown_ranks = Q(rank__lte=MACHINES_PER_PAGE)
    for key, number in turned.items():
        last = number * MACHINES_PER_PAGE
        shown_ranks = (shown_ranks & ~Q(pairing_id=key)) | Q(
            pairing_id=key, rank__gt=last - MACHINES_PER_PAGE, rank__lte=last
        )
    return (
        ReplicatedMachine.objects.filter(pairing_id__in=shown)
        .annotate(
            rank=Window(
                RowNumber(), partition_by=F("pairing_id"), order_by=[F("machine__name"), F("pk")]
            )
        )
        .filter(shown_ranks)
        .select_related("machine")
        .defer("machine__description", "machine__agent_certificate_pem")
        .order_by("machine__name", "pk")
    )


def _jobs_of(rows: list[ReplicatedMachine]) -> dict[uuid.UUID, Job]:
    """Return, by subject, the jobs of these machines that are open or need attention."""
    subjects = [row.pk for row in rows] + [row.machine_id for row in rows]
    jobs = Job.objects.filter(
        kind__in=["replicate", "seed_drive", *JOB_PAGES, "restore_disks"],
        subject_id__in=subjects,
        state__in=[*OPEN, JobState.NEEDS_ATTENTION],
    )
    return {job.subject_id: job for job in in_order(jobs)}


def machine_row(
    replicated: ReplicatedMachine,
    jobs: dict[uuid.UUID, Job],
    core_id: str,
    now: datetime.datetime,
    failback_id: uuid.UUID | None = None,
    is_on_seed_drive: bool = False,
) -> MachineRow:
    """Return one machine as the page shows it; `failback_id` is that of an uncommitted failback."""
    job = jobs.get(replicated.machine_id) or jobs.get(replicated.pk)
    kind = machine_state(replicated, job, core_id, is_on_seed_drive)
    return MachineRow(
        replicated=replicated,
        machine_state=kind,
        state=State(MACHINE_TONES[kind], str(kind.label), reason_of(replicated, kind, job)),
        lag_text=""
        if kind in WITHOUT_LAG
        else lag_text(replicated.behind_points, replicated.behind_bytes, replicated.behind_seconds),
        menu=machine_menu(replicated, kind, job),
        job=job,
        failback_url=reverse("replication:failback", args=[failback_id]) if failback_id else "",
    )


def _uncommitted_failbacks(rows: Iterable[ReplicatedMachine]) -> dict[uuid.UUID, uuid.UUID]:
    """Return, by machine, the failback that has not been committed."""
    machine_ids = [row.machine_id for row in rows if row.machine.kind == MachineKind.FAILED_BACK]
    if not machine_ids:
        return {}
    entries = FailbackMachine.objects.filter(
        machine_id__in=machine_ids, state=FailbackState.FAILED_BACK
    ).order_by("failed_back_at")
    return dict(entries.values_list("machine_id", "failback_id"))
