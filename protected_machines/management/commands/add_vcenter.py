"""Add a vCenter from a shell: `manage.py add_vcenter --name … --host … --username …`."""

from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

import vsphere
from console.audit.commands import AuditedCommand
from console.secret_input import read_secret
from protected_machines.exports.vcenters import add_vcenter
from vsphere.errors import VSphereError


class Command(AuditedCommand):
    help = (
        "Sign in to a vCenter or ESXi host and save it. Without --thumbprint, the certificate that "
        "it presents now is pinned, and its thumbprint printed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--name", required=True)
        parser.add_argument("--host", required=True)
        parser.add_argument("--port", type=int, default=443)
        parser.add_argument("--username", required=True)
        parser.add_argument("--password-file", type=Path, help="by default, it is asked for")
        parser.add_argument("--thumbprint", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        password = read_secret(f"Password of {options['username']}", options["password_file"])
        try:
            thumbprint = options["thumbprint"] or vsphere.fetch_thumbprint(
                options["host"], options["port"]
            )
            vcenter = add_vcenter(
                name=options["name"],
                host=options["host"],
                port=options["port"],
                username=options["username"],
                password=password,
                thumbprint=thumbprint,
            )
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from error
        except VSphereError as error:
            raise CommandError(f"{error} [{error.code}]") from error
        self.stdout.write(f"{vcenter.name}: {vcenter.check_text} ({vcenter.pk})")
        self.stdout.write(f"thumbprint {vcenter.thumbprint}")
