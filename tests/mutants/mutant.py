"""One important line, and how it is broken."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutant:
    """A text that stands once in a file, and what takes its place.

    tests: the files or folders of tests that have to notice.
    survives: why no test can notice it; empty: one has to.
    """

    file: str
    before: str
    after: str
    tests: str
    survives: str = ""

    @property
    def room(self) -> str:
        return self.file.partition("/")[0]

    def apply(self, text: str) -> str:
        """Return the file's text with the line broken.

        Raises:
            ValueError: the text does not stand there exactly once, so the list is out of date.
        """
        count = text.count(self.before)
        if count != 1:
            raise ValueError(f"{self.file}: {self.before!r} stands there {count} times, not once")
        return text.replace(self.before, self.after)
