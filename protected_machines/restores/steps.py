"""Restore a recovery point onto a machine that runs the rescue medium (bare metal restore).

The functions take ids and plain choices and know no job, so that restores and failbacks share
them.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from agent.client import AgentClient
from agent.errors import (
    AgentCertificateChanged,
    AgentGone,
    AgentRefusedCore,
    AgentUnreachable,
    RestoreUnknown,
)
from console.identity import fingerprint_of
from console.jobs.report import SILENCE, Report
from console.jobs.workflow import StepFailed, Waiting
from protected_machines.agents import connection
from protected_machines.agents.finding import Place, Search, find_agent
from protected_machines.models import Machine, RestoreTarget
from protected_machines.ownership import check_owner
from protected_machines.points.proofs import get_manifest
from protected_machines.points.store import open_store
from protected_machines.restores.mapping import DiskPair, map_disks
from protected_machines.restores.rescue_machines import (
    dial_target,
    get_target,
    refresh_target,
)
from recovery_store.manifest import Manifest
from recovery_store.vmdk.restore import RestorePlan

logger = logging.getLogger(__name__)

AGAIN_AFTER_CUT_SECONDS = 5.0


def restore_disks(
    machine_id: UUID | str,
    point_id: UUID | str,
    target_id: UUID | str,
    since_point_id: UUID | str | None = None,
    report: Report = SILENCE,
) -> dict[str, Any]:
    """Write the point to the disks of the rescue machine; with `since_point_id`, only the changes.

    Idempotent: the rescue agent knows what it has written of which point, and continues there.
    Fails with AGENT-…, STORE-…, RESTORE-….

    Raises:
        Waiting: the connection was lost; what has been written stays.
    """
    manifest = get_manifest(machine_id, point_id)
    target = get_target(target_id)
    with _waiting_for(target):
        refresh_target(target)
        mapping = map_disks(manifest, target.described)
        for finding in mapping.findings:
            if finding.is_error:
                raise StepFailed(finding.code, finding.text, is_permanent=True)
        client = dial_target(target)
        run = _Restore(manifest, client, report)
        try:
            written_bytes = run.write(
                mapping.pairs, str(since_point_id) if since_point_id else None
            )
        except RestoreUnknown:
            if since_point_id is None:
                raise
            report.note(
                "The rescue machine does not hold the earlier point, so everything is written."
            )
            written_bytes = run.write(mapping.pairs, None)
        client.finish_restore(str(point_id))
    return {"disks": len(mapping.pairs), "written_bytes": written_bytes}


class _Restore:
    """One run that writes a point's disks in order."""

    def __init__(self, manifest: Manifest, client: AgentClient, report: Report) -> None:
        self._manifest = manifest
        self._client = client
        self._report = report
        self._store = open_store()

    def write(self, pairs: Sequence[DiskPair], since_point_id: str | None) -> int:
        """Write every disk; return how many bytes of the store were read."""
        plans = [
            self._store.plan_restore(
                self._manifest.machine_id, self._manifest.point_id, pair.number, since_point_id
            )
            for pair in pairs
        ]
        try:
            total_bytes = sum(plan.data_bytes for plan in plans)
            before_bytes = 0
            for pair, plan in zip(pairs, plans, strict=True):
                self._write_disk(pair, plan, since_point_id, before_bytes, total_bytes)
                before_bytes += plan.data_bytes
        finally:
            for plan in plans:
                plan.close()
        return total_bytes

    def _write_disk(
        self,
        pair: DiskPair,
        plan: RestorePlan,
        since_point_id: str | None,
        before_bytes: int,
        total_bytes: int,
    ) -> None:
        def on_progress(done_bytes: int, _disk_bytes: int) -> None:
            self._report.progress(before_bytes + done_bytes, total_bytes)

        self._client.restore_disk(
            pair.target_number,
            plan,
            self._manifest.point_id,
            since_point_id,
            on_progress,
            self._report.check_cancel,
        )


def restart_target(target_id: UUID | str) -> None:
    """Restart the rescue machine from its own disk.

    Idempotent: a rescue agent that does not answer has restarted, or is about to.
    Fails with AGENT-… if it refuses.
    """
    target = get_target(target_id)
    try:
        dial_target(target, connection.PING_TIMEOUT_SECONDS).restart_from_disk()
    except (AgentUnreachable, AgentGone, AgentCertificateChanged, AgentRefusedCore) as error:
        logger.info("rescue agent is away target_id=%s error_code=%s", target.pk, error.code)


def wait_for_machine(
    machine_id: UUID | str, target_id: UUID | str, typed: Sequence[Place] = ()
) -> connection.AnsweringAgent:
    """Return the machine's own agent once it answers.

    It is expected at the rescue agent's address, on its port or on the machine's usual one, and
    where the machine announces itself from the same computer, or where a person says that it is.

    typed: where a person says that it is.

    Fails with AGENT-… if another agent than the pinned one answers there, or this core is rejected.

    Raises:
        Waiting: it does not answer yet, or the rescue medium is still running.
    """
    machine = Machine.objects.get(pk=machine_id)
    target = get_target(target_id)
    places = [
        Place(target.host, port, "where the rescue medium ran", is_certain=True)
        for port in dict.fromkeys((target.port, machine.port))
    ]
    return find_agent(
        machine,
        [*typed, *places, *Search(machine.pk).places()],
        {nic.mac.lower() for nic in target.described.nics},
        # The rescue medium is about to restart: asked again, it might not answer any more.
        going_fingerprint=fingerprint_of(target.agent_certificate_pem),
    )


def adopt_machine(machine_id: UUID | str, agent: connection.AnsweringAgent) -> None:
    """Protect the machine at the address where it answers now.

    Fails with MACHINE-NOT-OWNER.
    """
    machine = Machine.objects.get(pk=machine_id)
    check_owner(machine)
    connection.record_address(machine.pk, agent)


@contextmanager
def _waiting_for(target: RestoreTarget) -> Iterator[None]:
    """Turn a lost connection into a wait: the next run continues where this one stopped."""
    try:
        yield
    except (AgentUnreachable, AgentGone) as error:
        raise Waiting(
            f"{error} The transfer resumes where it stopped.", AGAIN_AFTER_CUT_SECONDS
        ) from error
    except AgentCertificateChanged as error:
        raise StepFailed(
            "RESTORE-TARGET-RESTARTED",
            f"The rescue machine at {target.address} was restarted, or another machine "
            "responds there: its certificate has changed. Pair with it again using the "
            "new code on its screen, then start a new restore.",
            is_permanent=True,
        ) from error
