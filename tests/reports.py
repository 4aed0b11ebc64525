"""A report that tells the test."""

from collections.abc import Callable


def _ignore(*words: object) -> None:
    return None


class Told:
    """Calls what the test gave it, and ignores the rest."""

    def __init__(
        self,
        progress: Callable[..., object] = _ignore,
        note: Callable[..., object] = _ignore,
        check_cancel: Callable[..., object] = _ignore,
    ) -> None:
        self.progress = progress
        self.note = note
        self.check_cancel = check_cancel


def may_act() -> None:
    """Stand for a worker that may touch the VM."""
