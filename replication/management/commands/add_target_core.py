"""Pair this core, as the source, with a target core."""

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from console.audit.commands import AuditedCommand
from console.secret_input import read_secret
from replication.errors import ReplicationError
from replication.models import Pairing
from replication.peers.client import short_fingerprint
from replication.peers.pairing import add_target_core


class Command(AuditedCommand):
    help = "Pair this core with a target core, by a one-time code that was made there."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", required=True)
        parser.add_argument("--port", type=int, required=True, help="of its core interface")
        parser.add_argument(
            "--code-file",
            type=Path,
            help="contains the code that `pairing_code` printed there; by default, it is asked for",
        )
        parser.add_argument(
            "--fingerprint", default="", help="SHA-256 fingerprint that its certificate must have"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        host, port = options["host"], options["port"]
        known = Pairing.objects.outgoing().filter(host=host, port=port).first()
        if known is not None and known.is_reachable:
            self.stdout.write(f"Already paired with {known.peer_name} at {known.address}")
            return
        code = read_secret("Pairing code of the target core", options["code_file"])
        try:
            pairing = add_target_core(host, port, code, options["fingerprint"])
        except ReplicationError as error:
            raise CommandError(f"{error.code}: {error}") from error
        self.stdout.write(
            f"Paired with {pairing.peer_name} at {pairing.address}, certificate "
            f"{short_fingerprint(pairing.peer_certificate_pem)}"
        )
