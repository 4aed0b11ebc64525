"""A restore's plan made of raw images, in place of the store's."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from recovery_store.vmdk.deflate import deflate

GRAIN_BYTES = 64 * 1024
ZERO_GRAIN = bytes(GRAIN_BYTES)


@dataclass(frozen=True)
class Run:
    """As the store's."""

    first_grain: int
    compressed: list[bytes]
    zero_grains: int = 0
    data_bytes: int = 0


class RawPlan:
    """What turns the disk `since` into `image`, or a blank one if that is not given.

    before_run: called with a run's first grain before it is yielded.
    """

    def __init__(
        self,
        image: Path,
        since: Path | None = None,
        before_run: Callable[[int], object] = lambda _grain: None,
        run_grains: int = 8,
    ) -> None:
        self.capacity_bytes = image.stat().st_size
        self._before_run = before_run
        self.runs: list[Run] = []
        grains = read_grains(image)
        older = read_grains(since) if since else [ZERO_GRAIN] * len(grains)
        older += [ZERO_GRAIN] * (len(grains) - len(older))
        for number, (grain, before) in enumerate(zip(grains, older, strict=False)):
            if grain != before:
                self._add(number, grain, run_grains)
        self.data_bytes = sum(run.data_bytes for run in self.runs)
        self.asked_from: list[int] = []

    def _add(self, number: int, grain: bytes, run_grains: int) -> None:
        last = self.runs[-1] if self.runs else None
        if grain == ZERO_GRAIN:
            if last and last.zero_grains and last.first_grain + last.zero_grains == number:
                self.runs[-1] = Run(last.first_grain, [], last.zero_grains + 1)
            else:
                self.runs.append(Run(number, [], 1))
            return
        compressed = deflate(grain)
        if (
            last
            and last.first_grain + len(last.compressed) == number
            and 0 < len(last.compressed) < run_grains
        ):
            grains = [*last.compressed, compressed]
            self.runs[-1] = Run(last.first_grain, grains, 0, last.data_bytes + len(compressed))
        else:
            self.runs.append(Run(number, [compressed], 0, len(compressed)))

    def left_bytes(self, from_grain: int) -> int:
        return sum(run.data_bytes for run in self._runs_from(from_grain))

    def read_runs(self, from_grain: int = 0) -> Iterator[Run]:
        self.asked_from.append(from_grain)
        for run in self._runs_from(from_grain):
            self._before_run(run.first_grain)
            yield run

    def _runs_from(self, from_grain: int) -> list[Run]:
        """Return the runs, the first of them cut where it has to be."""
        runs = []
        for run in self.runs:
            skipped = max(0, from_grain - run.first_grain)
            if run.zero_grains > skipped:
                runs.append(Run(run.first_grain + skipped, [], run.zero_grains - skipped))
            elif run.compressed[skipped:]:
                rest = run.compressed[skipped:]
                runs.append(Run(run.first_grain + skipped, rest, 0, sum(map(len, rest))))
        return runs


def read_grains(image: Path) -> list[bytes]:
    data = image.read_bytes()
    return [
        data[start : start + GRAIN_BYTES].ljust(GRAIN_BYTES, b"\0")
        for start in range(0, len(data), GRAIN_BYTES)
    ]
