"""Replicate a protected machine to a target core."""

import time
from typing import Any

from django.core.management.base import CommandError, CommandParser

from console.audit.commands import AuditedCommand
from console.jobs.errors import JobConflict
from protected_machines.models import Machine
from replication.models import Pairing, ReplicatedMachine
from replication.transfer.start import replicate_machine, start_replication

_POLL_SECONDS = 0.5


class Command(AuditedCommand):
    help = "Replicate a protected machine to a target core, now and after every recovery point."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="name of the protected machine")
        parser.add_argument("--target", default="", help="name of the target core, if several")
        parser.add_argument(
            "--wait",
            type=float,
            default=0.0,
            metavar="SECONDS",
            help="how long to wait until the newest recovery point is on the target core",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        machine = self._machine(options["name"])
        pairing = self._pairing(options["target"])
        replicated, is_new = replicate_machine(machine, pairing, requested_by=None)
        if is_new:
            self.stdout.write(f"{machine.name} is now replicated to {pairing.peer_name}")
        else:
            self.stdout.write(f"{machine.name} is already replicated to {pairing.peer_name}")
            try:
                start_replication(replicated)
            except JobConflict as error:
                self.stdout.write(str(error))
        if options["wait"]:
            self._wait(replicated, options["wait"])

    def _wait(self, replicated: ReplicatedMachine, limit_seconds: float) -> None:
        deadline = time.monotonic() + limit_seconds
        while True:
            replicated.refresh_from_db()
            newest = replicated.machine.points.newest_first().first()
            if newest is not None and replicated.last_point_id == newest.pk:
                self.stdout.write(f"The point of {newest.taken_at} is on the target core")
                return
            if time.monotonic() > deadline:
                raise CommandError(
                    f"After {limit_seconds:g} s the newest point is not on the target core yet. "
                    f"{replicated.error_text or 'It is still being sent, or no worker is running.'}"
                )
            time.sleep(_POLL_SECONDS)

    def _machine(self, name: str) -> Machine:
        machine = Machine.objects.owned_here().filter(name=name).first()
        if machine is None:
            elsewhere = Machine.objects.filter(name=name).first()
            if elsewhere is not None:
                raise CommandError(
                    f"{name} has belonged to {elsewhere.owner_core_name} since "
                    f"{elsewhere.owned_since:%Y-%m-%d %H:%M} UTC, so this core must not act on it."
                )
            raise CommandError(f"This core does not protect a machine named {name}.")
        return machine

    def _pairing(self, target: str) -> Pairing:
        pairings = list(Pairing.objects.outgoing())
        if target:
            pairings = [pairing for pairing in pairings if pairing.peer_name == target]
        if len(pairings) == 1:
            return pairings[0]
        names = ", ".join(pairing.peer_name for pairing in Pairing.objects.outgoing())
        if not names:
            raise CommandError("This core has no target core yet. Add one with add_target_core.")
        raise CommandError(f"Choose the target core with --target: {names}.")
