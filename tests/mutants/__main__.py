"""Break the listed lines one at a time, each in a copy of the tree, and run the tests of its room.

    python -m tests.mutants [--room ROOM] [--workers N]

Prints each line that was broken without a test noticing, and ends with 1 if there is one that the
list does not expect.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.mutants.lines import MUTANTS
from tests.mutants.mutant import ROOT, Mutant

LIMIT_SECONDS = 900
PASSED, FAILED = 0, 1
LINKED = (".venv", ".cache")


def copy_tree(folder: Path) -> Path:
    """Return a copy of the checkout as it is, without what the set-up made."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    return folder


def is_noticed(mutant: Mutant, tree: Path) -> bool:
    """Tell whether a test fails while the line is broken.

    Raises:
        RuntimeError: the tests could not be run at all.
    """
    file = tree / mutant.file
    original = file.read_text()
    file.write_text(mutant.apply(original))
    try:
        ended = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-x",
                "-n0",
                "-q",
                "-p",
                "no:cacheprovider",
                *mutant.tests.split(),
            ],
            cwd=tree,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return True
    finally:
        file.write_text(original)
    if ended.returncode not in (PASSED, FAILED):
        raise RuntimeError(f"{mutant.tests}: pytest ended with {ended.returncode}\n{ended.stdout}")
    return ended.returncode == FAILED


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--room", default="", help="only the lines of this package")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    chosen = [one for one in MUTANTS if arguments.room in ("", one.room)]
    unexpected = 0
    with tempfile.TemporaryDirectory(prefix="understudy-mutants-") as folder:
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(arguments.workers):
            trees.put(copy_tree(Path(folder) / str(number)))

        def judge(mutant: Mutant) -> bool:
            tree = trees.get()
            try:
                return is_noticed(mutant, tree)
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(arguments.workers) as pool:
            for number, (mutant, noticed) in enumerate(
                zip(chosen, pool.map(judge, chosen), strict=True), start=1
            ):
                what = f"{mutant.file}: {mutant.before.strip()!r} → {mutant.after.strip()!r}"
                if noticed == (not mutant.survives):
                    print(f"{number}/{len(chosen)} {'noticed' if noticed else 'survives'}: {what}")
                    continue
                unexpected += 1
                print(f"{number}/{len(chosen)} {'NOTICED' if noticed else 'SURVIVED'}: {what}")
    print(f"{len(chosen)} lines broken, {unexpected} not as the list expects")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
