"""Make a one-time code by which another core pairs with this one."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from console.audit.commands import AuditedCommand
from replication.peers.pairing_codes import VALID_MINUTES, make_pairing_code

_LONGEST_MINUTES = 24 * 60


class Command(AuditedCommand):
    help = (
        "Print a one-time code by which another core pairs with this one, as Settings → Pair "
        "another core does. It replaces any code that was made before."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--minutes",
            type=int,
            default=VALID_MINUTES,
            metavar="N",
            help="how long the code is valid (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        minutes = options["minutes"]
        if not 1 <= minutes <= _LONGEST_MINUTES:
            raise CommandError(f"A code is valid for 1 to {_LONGEST_MINUTES} minutes.")
        self.stdout.write(make_pairing_code("pairing_code (shell)", minutes))
