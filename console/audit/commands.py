"""The shell's door: what commands on the core's computer change is recorded."""

import getpass
import os
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from console.audit.choices import ActorKind, Outcome
from console.audit.door import Actor, come_in
from console.audit.log import record


class AuditedCommand(BaseCommand):
    """A command that changes something on this core. With `--check`, it only looks."""

    def execute(self, *args: Any, **options: Any) -> Any:
        """Run the command, and record it unless what it did has been recorded already."""
        with come_in(Actor(ActorKind.SHELL, _system_user())) as door:
            outcome, sentence = Outcome.DONE, f"manage.py {self.name} {self._given(options)}"
            try:
                return super().execute(*args, **options)
            except CommandError as error:
                outcome, sentence = Outcome.REFUSED, str(error)
                raise
            finally:
                is_recorded = outcome == Outcome.DONE and door.entries
                if not is_recorded and not options.get("check"):
                    record(f"manage.py:{self.name}", sentence.strip(), outcome=outcome)

    @property
    def name(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    def _given(self, options: dict[str, Any]) -> str:
        """Return the options that were given. None of them is a secret, by rule."""
        own = self.create_parser("manage.py", self.name)
        general = BaseCommand().create_parser("manage.py", self.name)
        names = [action.dest for action in own._actions if action.dest not in _names(general)]
        given = {name: options.get(name) for name in names}
        return " ".join(f"{name}={value}" for name, value in given.items() if value)


def _names(parser: Any) -> set[str]:
    return {action.dest for action in parser._actions}


def _system_user() -> str:
    """Return who runs the command, also through sudo."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
