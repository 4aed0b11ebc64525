"""Pair this core, as the source, with a target core."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from replication.errors import ReplicationError
from replication.models import Pairing
from replication.peers.client import short_fingerprint
from replication.peers.pairing import add_target_core


class Command(BaseCommand):
    help = "Pair this core with a target core. An administrator of that core must vouch for it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", required=True)
        parser.add_argument("--port", type=int, required=True, help="of its core interface")
        parser.add_argument("--username", required=True, help="an administrator of the target core")
        password = parser.add_mutually_exclusive_group(required=True)
        password.add_argument("--password")
        password.add_argument("--password-file", type=Path)
        parser.add_argument(
            "--fingerprint", default="", help="SHA-256 fingerprint that its certificate must have"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        host, port = options["host"], options["port"]
        known = Pairing.objects.outgoing().filter(host=host, port=port).first()
        if known is not None and known.is_reachable:
            self.stdout.write(f"Already paired with {known.peer_name} at {known.address}")
            return
        password = options["password"]
        if options["password_file"]:
            password = options["password_file"].read_text().strip()
        try:
            pairing = add_target_core(
                host, port, options["username"], password, options["fingerprint"]
            )
        except ReplicationError as error:
            raise CommandError(f"{error.code}: {error}") from error
        self.stdout.write(
            f"Paired with {pairing.peer_name} at {pairing.address}, certificate "
            f"{short_fingerprint(pairing.peer_certificate_pem)}"
        )
