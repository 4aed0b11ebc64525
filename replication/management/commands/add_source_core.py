"""Pair this core, as the target, with a new source core."""

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from console.audit.commands import AuditedCommand
from console.secret_input import read_secret
from replication.errors import ReplicationError
from replication.models import Pairing
from replication.peers.client import short_fingerprint
from replication.peers.pairing import add_source_core, find_replaced


class Command(AuditedCommand):
    help = (
        "Pair this core, as the target, with a source core that was reinstalled, by a one-time "
        "code that was made there, so that the machines that run here can fail back to it."
    )

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
        parser.add_argument(
            "--replaces",
            default="",
            metavar="NAME",
            help="name of the lost source core; by default the one at the same address",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        host, port = options["host"], options["port"]
        replaces = self._replaced(options["replaces"], host, port)
        code = read_secret("Pairing code of the source core", options["code_file"])
        try:
            pairing = add_source_core(host, port, code, options["fingerprint"], replaces)
        except ReplicationError as error:
            raise CommandError(f"{error.code}: {error}") from error
        self.stdout.write(
            f"Paired with {pairing.peer_name} at {pairing.address}, certificate "
            f"{short_fingerprint(pairing.peer_certificate_pem)}; "
            f"{pairing.machines.count()} machines can fail back to it"
        )

    def _replaced(self, name: str, host: str, port: int) -> Pairing | None:
        incoming = Pairing.objects.incoming()
        if not name:
            return find_replaced(incoming, host, port)
        found = list(incoming.filter(peer_name=name))
        if len(found) != 1:
            names = ", ".join(pairing.peer_name for pairing in incoming)
            raise CommandError(
                f"Choose the source core with --replaces: {names or 'there is none'}."
            )
        return found[0]
