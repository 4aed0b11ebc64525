"""Let users sign in at once who have to wait after wrong passwords or codes."""

import ipaddress
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from console.accounts.addresses import network_of
from console.accounts.limits import unlock
from console.audit.commands import AuditedCommand


class Command(AuditedCommand):
    help = (
        "Forget wrong passwords and codes, so that nobody has to wait to sign in. With a user name "
        "and --address, guesses from elsewhere do not delay that user at that address either."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", nargs="?", help="only those of this account")
        parser.add_argument("--address", help="only those from this IP address")

    def handle(self, *args: Any, username: str | None, address: str | None, **options: Any) -> None:
        if username is not None and not _exists(username):
            raise CommandError(f"This core has no user {username}.")
        try:
            network = address and network_of(ipaddress.ip_address(address))
        except ValueError as error:
            raise CommandError(f"--address: {error}") from error
        unlock(username, network, timezone.now())
        of = f" of {username}" if username else ""
        at = f" from {network}" if network else ""
        self.stdout.write(f"Wrong passwords and codes{of}{at} are forgotten.")


def _exists(username: str) -> bool:
    return get_user_model().objects.filter(username=username).exists()
