"""Hold log lines back while file systems are frozen.

The journal writes to a frozen disk, and soon accepts nothing more. Anyone who logs to it then waits
for a thaw, and so would the agent, which must stay able to thaw.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TextIO

_MOST_LINES = 1000


class QuietHandler(logging.Handler):
    """Writes to a stream, or keeps the newest lines while they are held back."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._kept: deque[str] = deque(maxlen=_MOST_LINES)
        self._is_held_back = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write or keep a line."""
        line = self.format(record)
        if self._is_held_back:
            self._kept.append(line)
        else:
            self._write(line)

    def hold_back(self) -> None:
        """Keep lines from now on."""
        self.acquire()
        self._is_held_back = True
        self.release()

    def let_go(self) -> None:
        """Write what was kept, and write directly again; harmless if nothing is held back."""
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
        except OSError:  # there is nobody left to tell
            self._kept.clear()


def hold_back_logs() -> None:
    """Keep the lines of this process from now on."""
    for handler in _quiet_handlers():
        handler.hold_back()


def let_logs_go() -> None:
    """Write what was kept, and write directly again."""
    for handler in _quiet_handlers():
        handler.let_go()


def _quiet_handlers() -> list[QuietHandler]:
    return [entry for entry in logging.getLogger().handlers if isinstance(entry, QuietHandler)]
