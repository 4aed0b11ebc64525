"""Fail machines over from a shell, like the Fail Over dialog and with the same refusals."""

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from console.audit.commands import AuditedCommand
from console.findings import has_errors
from console.jobs.errors import JobConflict
from protected_machines.choices import MachineKind
from replication.drafts import find_candidates
from replication.errors import FailoverRefused
from replication.failover.check import (
    FailoverCheck,
    FailoverFacts,
    check_failover,
    propose,
)
from replication.failover.order import Destination, FailoverOrder, MachineOrder
from replication.failover.start import start_failover
from replication.models import Pairing


class Command(AuditedCommand):
    help = (
        "Fail over machines of a lost source core to this core, each from its newest proven "
        "recovery point, to the destination that the Fail Over dialog proposes. Prints the "
        "findings first; if one blocks, nothing is started."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", help="name of the source core")
        parser.add_argument(
            "--machine",
            action="append",
            default=[],
            metavar="NAME",
            help="only this machine; may be repeated (default: all that no finding blocks)",
        )
        parser.add_argument(
            "--reason", default="", help="why; kept in the audit log, and needed without --check"
        )
        parser.add_argument("--check", action="store_true", help="print the findings only")

    def handle(self, *args: Any, **options: Any) -> None:
        order = self._order(options["source"], options["machine"], options["reason"])
        check = check_failover(order, timezone.now(), takes_defaults=True)
        self._print(check)
        if check.refusal:
            raise CommandError(check.refusal)
        if options["check"]:
            return
        try:
            failover = start_failover(check.order, None, check)
        except (FailoverRefused, JobConflict) as error:
            raise CommandError(error.text) from error
        self.stdout.write(f"Failover {failover.pk} has started with {len(check.machines)} jobs")

    def _order(self, source: str, names: list[str], reason: str) -> FailoverOrder:
        pairing = Pairing.objects.incoming().filter(peer_name=source).first()
        if pairing is None:
            raise CommandError(f"No source core named {source} replicates to this core.")
        rows, _ = find_candidates(pairing, MachineKind.REPLICATED, None)
        if names:
            known = pairing.machines.select_related("machine", "pairing")
            rows = list(known.filter(machine__name__in=names).order_by("machine__name"))
            missing = sorted(set(names) - {row.machine.name for row in rows})
            if missing:
                raise CommandError(
                    f"{source} does not replicate a machine named {', '.join(missing)}."
                )
        facts = FailoverFacts(pairing, rows)
        machines = [propose(row, facts) for row in rows]
        if not names:
            machines = [one for one in machines if self._is_free(one, facts)]
        return FailoverOrder(pairing.pk, Destination(), tuple(machines), reason)

    def _is_free(self, order: MachineOrder, facts: FailoverFacts) -> bool:
        return not has_errors(facts.findings_anywhere(order, timezone.now()))

    def _print(self, check: FailoverCheck) -> None:
        for machine in check.machines:
            taken = f"{machine.point.taken_at:%Y-%m-%d %H:%M:%S} UTC" if machine.point else "none"
            self.stdout.write(f"{machine.name}: recovery point {taken}")
            for finding in machine.findings:
                severity = "blocks" if finding.is_error else "warning"
                self.stdout.write(f"  {severity}: {finding.text} [{finding.code}]")
