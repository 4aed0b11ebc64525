"""Run every benchmark, print the table, and keep the figures as JSON.

Use `python -m benchmarks [NAME ...]`; a name is a module of this folder that has `run`.
The results go to `benchmarks/results/`, which git ignores.
"""

import datetime
import importlib
import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.figures import Figure

NAMES = (
    "store_export",
    "vsphere_upload",
    "agent_base_image",
    "store_incremental",
    "store_sparse",
    "store_restore",
    "agent_restore",
    "replication_wire",
    "failback_wire",
    "replication_page",
)
_HERE = Path(__file__).parent


def main(names: list[str]) -> int:
    """Run the named benchmarks; return 0 when every figure is met, else 1."""
    home = Path(os.environ.get("UNDERSTUDY_HOME", _HERE.parent / ".understudy"))
    cache = home / "bench"
    cache.mkdir(parents=True, exist_ok=True)
    figures: list[Figure] = []
    for name in names or NAMES:
        print(f"… {name}", flush=True)
        with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=cache) as work:
            # Images that several benchmarks read are cached beside the work folder.
            figures += importlib.import_module(f"benchmarks.{name}").run(Path(work))
    print(_table(figures))
    _keep(figures)
    return 0 if all(figure.met for figure in figures) else 1


def _table(figures: list[Figure]) -> str:
    lines = [
        "| What | Ours | Peer | Ratio | Must reach | Met |",
        "|---|---|---|---|---|---|",
    ]
    lines += [figure.row() for figure in figures]
    return "\n".join(lines)


def _keep(figures: list[Figure]) -> None:
    now = datetime.datetime.now(datetime.UTC)
    folder = _HERE / "results"
    folder.mkdir(exist_ok=True)
    path = folder / f"{now:%Y-%m-%dT%H%M%SZ}.json"
    path.write_text(
        json.dumps(
            {
                "measured_at": now.isoformat(),
                "machine": {
                    "processor": platform.processor() or platform.machine(),
                    "cpus": os.cpu_count(),
                    "python": platform.python_version(),
                },
                "figures": [asdict(figure) for figure in figures],
            },
            indent=2,
        )
    )
    print(f"Kept in {path}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
