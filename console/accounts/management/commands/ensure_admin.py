"""Make sure that an administrator can sign in."""

from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    help = "Create an administrator, or set an existing one's password to the one in the file."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--username", required=True)
        parser.add_argument("--password-file", required=True, type=Path)

    def handle(self, *args: Any, username: str, password_file: Path, **options: Any) -> None:
        try:
            password = password_file.read_text().strip()
        except OSError as error:
            raise CommandError(f"{password_file} cannot be read: {error.strerror}") from error
        if not password:
            raise CommandError(f"{password_file} is empty; expected a password on its first line")
        user, is_new = get_user_model().objects.get_or_create(username=username)
        # Leave an unchanged password alone: setting it again would end every session.
        if not user.check_password(password):
            user.set_password(password)
        user.is_active = user.is_staff = user.is_superuser = True
        user.save()
        self.stdout.write(f"Administrator {username} {'created' if is_new else 'exists'}.")
