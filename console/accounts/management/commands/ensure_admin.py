"""Make sure that an administrator can sign in."""

from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandParser

from console.audit.commands import AuditedCommand
from console.secret_input import read_secret


class Command(AuditedCommand):
    help = "Create an administrator, or set an existing one's password."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--username", required=True)
        parser.add_argument("--password-file", type=Path, help="by default, it is asked for")

    def handle(
        self, *args: Any, username: str, password_file: Path | None = None, **options: Any
    ) -> None:
        password = read_secret(f"New password of {username}", password_file)
        user, is_new = get_user_model().objects.get_or_create(username=username)
        # Leave an unchanged password alone: setting it again would end every session.
        if not user.check_password(password):
            user.set_password(password)
        user.is_active = user.is_staff = user.is_superuser = True
        user.save()
        self.stdout.write(f"Administrator {username} {'created' if is_new else 'exists'}.")
