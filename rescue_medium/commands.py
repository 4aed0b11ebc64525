"""Run another program with a time limit, and say what it said when it fails."""

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class CommandFailed(Exception):
    """A program ended with an error or took too long; the text holds its command and output."""


def run_command(
    *words: str | Path,
    limit_seconds: float = 120,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    accepted: Sequence[int] = (0,),
    input_text: str | None = None,
) -> str:
    """Run a program and return its standard output.

    Raises:
        CommandFailed: the exit code is none of `accepted`, or the limit passed, or there is no
            such program.
    """
    command = [str(word) for word in words]
    try:
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_seconds,
            check=False,
            env=None if environment is None else dict(environment),
            cwd=folder,
            input=input_text,
            stdin=subprocess.DEVNULL if input_text is None else None,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"{shlex.join(command)}: no end after {limit_seconds} s") from error
    except FileNotFoundError as error:
        raise CommandFailed(f"{command[0]} is not installed on this computer") from error
    if result.returncode not in accepted:
        said = (result.stdout + result.stderr).strip()[-4000:]
        raise CommandFailed(f"{shlex.join(command)}: exit {result.returncode}\n{said}")
    return result.stdout
