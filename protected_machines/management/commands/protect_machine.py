"""Protect a machine from a shell: `manage.py protect_machine --name … --host …`."""

from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from agent.errors import AgentError
from console.audit.commands import AuditedCommand
from console.secret_input import read_secret
from protected_machines.agents.pairing import protect_machine
from protected_machines.models import Machine


class Command(AuditedCommand):
    help = "Pair with a machine's agent and protect the machine. Idempotent."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--name", required=True)
        parser.add_argument("--host", required=True)
        parser.add_argument("--port", type=int, default=8006)
        parser.add_argument(
            "--code-file",
            type=Path,
            help="contains the agent's one-time pairing code; by default, it is asked for",
        )
        parser.add_argument("--interval", type=int, default=3600, help="seconds between points")

    def handle(self, *args: Any, **options: Any) -> None:
        name, host, port = options["name"], options["host"], options["port"]
        known = Machine.objects.filter(name=name, source_core_id=None).first()
        if known is not None and (known.host, known.port) == (host, port):
            self.stdout.write(f"{name} is already protected ({known.pk})")
            return
        try:
            machine = protect_machine(
                name=name,
                host=host,
                port=port,
                code=read_secret(f"Pairing code of {name}", options["code_file"]),
                interval_seconds=options["interval"],
            )
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from error
        except AgentError as error:
            raise CommandError(f"{error} [{error.code}]") from error
        self.stdout.write(f"{name} is protected ({machine.pk})")
