"""Settle who owns a machine: the core that claims it."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from console.audit.commands import AuditedCommand
from protected_machines.errors import ClaimNotSettled
from protected_machines.settling import accept_claim, get_named


class Command(AuditedCommand):
    help = (
        "Accept the claim of the other core to a machine whose owner is disputed. Use it when the "
        "machine really runs there. This core then keeps only its recovery points. Starts and "
        "stops nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="name of the machine")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            machine = get_named(options["name"])
            accept_claim(machine)
        except ClaimNotSettled as error:
            raise CommandError(f"{error} [{error.code}]") from error
        self.stdout.write(
            f"{machine.owner_core_name} owns {machine.name} with ownership epoch "
            f"{machine.ownership_epoch}"
        )
