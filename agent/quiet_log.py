"""Hold log lines back while file systems are frozen.

The journal writes to a frozen disk and soon accepts nothing more. Whatever logs to it then blocks
until the thaw. The agent must not, since it has to thaw.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TextIO

_MOST_LINES = 1000


class QuietHandler(logging.Handler):
    """Writes to a stream, or keeps the newest lines while logging is held back."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._kept: deque[str] = deque(maxlen=_MOST_LINES)
        self._is_held_back = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line, or keep it."""
        line = self.format(record)
        if self._is_held_back:
            self._kept.append(line)
        else:
            self._write(line)

    def hold_back(self) -> None:
        """Keep lines instead of writing them."""
        self.acquire()
        self._is_held_back = True
        self.release()

    def let_go(self) -> None:
        """Write the lines that were kept, and return to direct writing; harmless if repeated."""
        self.acquire()
        try:
            self._is_held_back = False
            while self._kept:
                self._write(self._kept.popleft())
        finally:
            self.release()

    def _write(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except OSError:  # no one is reading any longer
            self._kept.clear()


def hold_back_logs() -> None:
    """Hold back this process's log lines."""
    for handler in _quiet_handlers():
        handler.hold_back()


def let_logs_go() -> None:
    """Write the lines that were held back, and return to direct writing."""
    for handler in _quiet_handlers():
        handler.let_go()


def _quiet_handlers() -> list[QuietHandler]:
    return [entry for entry in logging.getLogger().handlers if isinstance(entry, QuietHandler)]
