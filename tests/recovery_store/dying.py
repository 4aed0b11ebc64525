"""Processes that are killed in the middle of what they do."""

import os
import signal
from collections.abc import Callable
from typing import Any

_CHANGING_CALLS = (
    "write",
    "pwrite",
    "fsync",
    "ftruncate",
    "unlink",
    "rename",
    "mkdir",
    "rmdir",
    "open",
)

Progress = Callable[[int, int], None]


def killed_at(step: int, act: Callable[[], object]) -> bool:
    """Act in a process that is killed before its n-th change of the file system, if it gets there.

    Returns whether it was killed; if not, it has done all of it.
    """
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            _die_at(step)
            act()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def kill_at_progress(done_bytes: int, act: Callable[[Progress], object]) -> None:
    """Act in a process that halts when it tells so much progress, and kill it there."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:

        def halt(now_bytes: int, _: int) -> None:
            if now_bytes >= done_bytes:
                os.write(tell, b"!")
                signal.pause()

        try:
            act(halt)
        finally:
            os._exit(99)
    os.close(tell)
    try:
        assert os.read(told, 1) == b"!", "it was over before"
        os.kill(pid, signal.SIGKILL)
    finally:
        os.close(told)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == -signal.SIGKILL


def _die_at(step: int) -> None:
    left = step

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        return call

    for name in _CHANGING_CALLS:
        setattr(os, name, dying(getattr(os, name)))
