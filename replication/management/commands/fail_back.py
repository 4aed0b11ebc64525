"""Fail machines back from a shell, like the Failback dialog and with the same refusals."""

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from console.audit.commands import AuditedCommand
from console.jobs.errors import JobConflict
from console.secret_input import read_secret
from console.wording import bytes_human, duration_human
from replication.errors import FailbackRefused
from replication.failback.check import FailbackCheck, check_failback
from replication.failback.order import FailbackOrder, MachineOrder, RescueAddress
from replication.failback.start import start_failback
from replication.models import Pairing

_AGENT_PORT = 8006


class Command(AuditedCommand):
    help = (
        "Fail machines back to their source core, each onto a rescue machine there. Prints the "
        "estimate and the findings first; if a finding blocks, nothing is started. Prompts for the "
        "code on each rescue machine's screen, or reads the codes from standard input, one line "
        "for each machine in the order given."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", help="name of the source core")
        parser.add_argument(
            "machines",
            nargs="+",
            metavar="NAME=ADDRESS[:PORT]",
            help="a machine that runs here, and its rescue machine",
        )
        parser.add_argument(
            "--commit-days",
            type=int,
            metavar="N",
            help="commit automatically after N days (default: wait until someone commits)",
        )
        parser.add_argument(
            "--reason", default="", help="why; kept in the audit log, and needed without --check"
        )
        parser.add_argument(
            "--check", action="store_true", help="print the estimate and the findings only"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        pairing = Pairing.objects.incoming().filter(peer_name=options["source"]).first()
        if pairing is None:
            raise CommandError(f"No source core named {options['source']} replicates to this core.")
        order = FailbackOrder(
            pairing_id=pairing.pk,
            machines=tuple(self._machine(pairing, text) for text in options["machines"]),
            commit_days=options["commit_days"],
            reason=options["reason"],
        )
        check = check_failback(order, timezone.now())
        self._print(check)
        if check.refusal:
            raise CommandError(check.refusal)
        if options["check"]:
            return
        try:
            failback = start_failback(order, None, check)
        except (FailbackRefused, JobConflict) as error:
            raise CommandError(error.text) from error
        self.stdout.write(f"Failback {failback.pk} has started with {len(check.machines)} jobs")

    def _machine(self, pairing: Pairing, text: str) -> MachineOrder:
        name, _, address = text.partition("=")
        host, _, port = address.partition(":")
        row = pairing.machines.filter(machine__name=name).first()
        if row is None:
            raise CommandError(
                f"{pairing.peer_name} shares no machine named {name} with this core."
            )
        if not host or (port and not port.isdecimal()):
            raise CommandError(f"{text}: write NAME=ADDRESS or NAME=ADDRESS:PORT.")
        code = read_secret(f"Code on the rescue machine for {name}")
        rescue = RescueAddress(host, int(port or _AGENT_PORT), code)
        return MachineOrder(row.machine_id, rescue)

    def _print(self, check: FailbackCheck) -> None:
        for machine in check.machines:
            self.stdout.write(machine.name)
            if machine.quote is not None:
                self.stdout.write(
                    f"  {bytes_human(machine.quote.send_bytes)} to send, "
                    f"{duration_human(machine.quote.down_seconds)} of downtime"
                )
            for finding in machine.findings:
                severity = "blocks" if finding.is_error else "warning"
                self.stdout.write(f"  {severity}: {finding.text} [{finding.code}]")
