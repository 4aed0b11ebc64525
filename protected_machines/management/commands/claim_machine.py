"""Settle who owns a machine that two cores claim."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from console.identity import this_core
from protected_machines.models import Machine
from protected_machines.ownership import ask_peers, take_ownership


class Command(BaseCommand):
    help = (
        "Make this core the owner of a machine, by an ownership epoch above every other core's. "
        "For a machine that really runs here while two cores claim it; nothing is started or "
        "stopped."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="of the machine")

    def handle(self, *args: Any, **options: Any) -> None:
        found = list(Machine.objects.filter(name=options["name"]))
        if len(found) != 1:
            raise CommandError(f"This core knows {len(found)} machines named {options['name']}.")
        machine = found[0]
        epochs = [claim.ownership_epoch for claim in ask_peers(machine)]
        highest = max([machine.ownership_epoch, *epochs])
        Machine.objects.filter(pk=machine.pk, ownership_epoch__lt=highest).update(
            ownership_epoch=highest
        )
        if not take_ownership(machine.pk, this_core(), highest):
            raise CommandError("Its owner changed at the same moment; look again.")
        self.stdout.write(f"This core owns {machine.name} by the ownership epoch {highest + 1}")
