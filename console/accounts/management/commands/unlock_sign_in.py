"""Let users sign in at once who have to wait after wrong passwords or codes."""

import ipaddress
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from console.accounts.addresses import network_of
from console.accounts.invitations import VALID_HOURS, let_choose_password
from console.accounts.limits import unlock
from console.accounts.users import enable, reset_second_factor
from console.audit.commands import AuditedCommand


class Command(AuditedCommand):
    help = (
        "Forget wrong passwords and codes, so that nobody has to wait to sign in. With a user name "
        "and --address, guesses from elsewhere do not delay that user at that address either."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", nargs="?", help="only those of this account")
        parser.add_argument("--address", help="only those from this IP address")
        parser.add_argument(
            "--link",
            action="store_true",
            help="also enable the account, remove its second factor, and print a one-time link by "
            "which the user chooses a new password",
        )

    def handle(
        self, *args: Any, username: str | None, address: str | None, link: bool, **options: Any
    ) -> None:
        if link and username is None:
            raise CommandError("--link needs a user: whose password is to be chosen?")
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
        if link and username is not None:
            self.stdout.write(_let_in(username))


def _let_in(username: str) -> str:
    user = User.objects.get(username=username)
    enable(user)
    reset_second_factor(user)
    made = let_choose_password(user, "a shell of this core", timezone.now())
    return f"{made.url}\nIt works once, within {VALID_HOURS} hours."


def _exists(username: str) -> bool:
    return User.objects.filter(username=username).exists()
