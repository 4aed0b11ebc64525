"""Settle who owns a machine that two cores claim."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from console.identity import this_core
from protected_machines.models import Machine
from protected_machines.ownership import ask_peers, take_ownership


class Command(BaseCommand):
    help = (
        "Make this core the owner of a machine, with an ownership epoch higher than any other "
        "core's. Use it when two cores claim a machine that really runs here. Starts and stops "
        "nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="name of the machine")

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
            raise CommandError("The owner changed at the same moment. Run the command again.")
        self.stdout.write(f"This core owns {machine.name} with ownership epoch {highest + 1}")
