"""Invite someone to this core from a shell: also its first administrator."""

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from console.accounts.invitations import VALID_HOURS, invite
from console.accounts.roles import Role
from console.audit.commands import AuditedCommand


class Command(AuditedCommand):
    help = "Print a one-time link by which someone becomes a user of this core."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", help="a proposal: they can choose another name")
        parser.add_argument("--role", choices=Role.values, default=Role.ADMINISTRATOR.value)

    def handle(self, *args: Any, username: str, role: str, **options: Any) -> None:
        if User.objects.filter(username__iexact=username).exists():
            raise CommandError(
                f"This core already has a user {username}. If they cannot sign in, run "
                f"manage.py unlock_sign_in {username} --link"
            )
        link = invite(username, Role(role), "a shell of this core", timezone.now())
        self.stdout.write(f"{link.url}\nIt works once, within {VALID_HOURS} hours.")
