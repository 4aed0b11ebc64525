"""Settle who owns a machine: this core."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from agent.errors import AgentError
from console.audit.commands import AuditedCommand
from protected_machines.errors import ClaimNotSettled
from protected_machines.ownership import ask_peers
from protected_machines.settling import ask_agent, claim_here, get_named


class Command(AuditedCommand):
    help = (
        "Make this core the owner of a machine, with an ownership epoch higher than any other "
        "core's. Use it when the owner of a machine that really runs here is disputed or "
        "contradictory. Starts and stops nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="name of the machine")
        parser.add_argument(
            "--host", default="", help="where its agent answers, if this core does not know that"
        )
        parser.add_argument("--port", type=int, default=8006)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            machine = get_named(options["name"])
            ask_peers(machine)
            host, port = options["host"], options["port"]
            claim_here(machine, ask_agent(machine, host, port) if host else None)
        except (ClaimNotSettled, AgentError) as error:
            raise CommandError(f"{error} [{error.code}]") from error
        self.stdout.write(
            f"This core owns {machine.name} with ownership epoch {machine.ownership_epoch}"
        )
