"""Withdraw what was delegated: `manage.py withdraw_delegations NAME`."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from agent.errors import AgentError
from console.audit.commands import AuditedCommand
from protected_machines.agents.delegation import withdraw_delegations
from protected_machines.errors import ProtectedMachinesError
from protected_machines.models import Machine


class Command(AuditedCommand):
    help = (
        "Have a machine's agent reject every delegation that this core has issued so far. Cores "
        "to which the machine is still replicated are sent a new one with the next replication."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="the machine's name")

    def handle(self, *args: Any, **options: Any) -> None:
        machine = Machine.objects.live().filter(name=options["name"]).first()
        if machine is None:
            raise CommandError(f"This core does not protect a machine named {options['name']}.")
        try:
            number = withdraw_delegations(machine)
        except (AgentError, ProtectedMachinesError) as error:
            raise CommandError(f"{error} [{error.code}]") from error
        self.stdout.write(f"{machine.name}: only delegations from number {number} on are accepted.")
