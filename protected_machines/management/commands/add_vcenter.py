"""Add a vCenter from a shell: `manage.py add_vcenter --name … --host … --username …`."""

import os
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

import vsphere
from protected_machines.exports.vcenters import add_vcenter
from vsphere.errors import VSphereError


class Command(BaseCommand):
    help = (
        "Sign in to a vCenter or ESXi host and save it. Without --thumbprint, the certificate that "
        "it presents now is pinned, and its thumbprint printed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--name", required=True)
        parser.add_argument("--host", required=True)
        parser.add_argument("--port", type=int, default=443)
        parser.add_argument("--username", required=True)
        secret = parser.add_mutually_exclusive_group()
        secret.add_argument("--password", help="visible to other users in the process list")
        secret.add_argument("--password-file", help="a file that contains only the password")
        parser.add_argument("--thumbprint", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            thumbprint = options["thumbprint"] or vsphere.fetch_thumbprint(
                options["host"], options["port"]
            )
            vcenter = add_vcenter(
                name=options["name"],
                host=options["host"],
                port=options["port"],
                username=options["username"],
                password=_password(options),
                thumbprint=thumbprint,
            )
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from error
        except VSphereError as error:
            raise CommandError(f"{error} [{error.code}]") from error
        self.stdout.write(f"{vcenter.name}: {vcenter.check_text} ({vcenter.pk})")
        self.stdout.write(f"thumbprint {vcenter.thumbprint}")


def _password(options: dict[str, Any]) -> str:
    if options["password"] is not None:
        return str(options["password"])
    if options["password_file"]:
        try:
            return Path(options["password_file"]).read_text().strip()
        except OSError as error:
            raise CommandError(f"The password file cannot be read: {error}") from error
    if "VCENTER_PASSWORD" in os.environ:
        return os.environ["VCENTER_PASSWORD"]
    raise CommandError("Give --password or --password-file, or set VCENTER_PASSWORD.")
