"""Run a program with a time limit; if it fails, the error has its output."""

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class CommandFailed(Exception):
    """A program failed or took too long; the text has its command and output."""


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
        CommandFailed: the exit code is not in `accepted`, the limit passed, or the program is not
            installed.
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
        raise CommandFailed(
            f"{shlex.join(command)}: not finished after {limit_seconds} s"
        ) from error
    except FileNotFoundError as error:
        raise CommandFailed(f"{command[0]} is not installed on this computer") from error
    if result.returncode not in accepted:
        said = (result.stdout + result.stderr).strip()[-4000:]
        raise CommandFailed(f"{shlex.join(command)}: exit {result.returncode}\n{said}")
    return result.stdout
