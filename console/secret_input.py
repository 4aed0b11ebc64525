"""Read a secret for a command: from a file, or from whoever runs it.

No command takes one as the value of an option: all users of the computer can read those in the
process list, and shells keep them in a history.
"""

import sys
from getpass import getpass
from pathlib import Path

from django.core.management.base import CommandError


def read_secret(what: str, file: Path | None = None) -> str:
    """Return the secret on the first line of a file.

    Without a file, ask on the terminal, or take the next line of standard input.

    what: names it in the question and in errors.

    Raises:
        CommandError: the file cannot be read, or there is no secret.
    """
    try:
        lines = file.read_text().splitlines() if file else [_ask(what)]
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{what}: {file} cannot be read: {error}") from error
    secret = lines[0].strip() if lines else ""
    if not secret:
        raise CommandError(f"{what}: {file or 'standard input'} is empty; expected it on one line")
    return secret


def _ask(what: str) -> str:
    return getpass(f"{what}: ") if sys.stdin.isatty() else sys.stdin.readline()
