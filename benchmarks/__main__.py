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
import traceback
from dataclasses import asdict
from pathlib import Path

from benchmarks.figures import Figure

NAMES = (
    "store_export",
    "vsphere_upload",
    "vsphere_waits",
    "agent_base_image",
    "store_incremental",
    "store_sparse",
    "store_restore",
    "store_lookup",
    "agent_restore",
    "replication_wire",
    "failback_wire",
    "replication_page",
)
_HERE = Path(__file__).parent


def main(names: list[str]) -> int:
    """Run the named benchmarks; return 0 if every figure is met, else 1.

    Rows are printed and kept as they are measured: a benchmark that fails does not stop the others.
    """
    home = Path(os.environ.get("UNDERSTUDY_HOME", _HERE.parent / ".understudy"))
    cache = home / "bench"
    cache.mkdir(parents=True, exist_ok=True)
    started_at = datetime.datetime.now(datetime.UTC)
    figures: list[Figure] = []
    failed: list[str] = []
    print(
        "| What | Ours | Peer | Ratio | Must reach | Met |\n|---|---|---|---|---|---|", flush=True
    )
    for name in names or NAMES:
        try:
            with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=cache) as work:
                # Images that several benchmarks read are cached beside the work folder.
                measured = importlib.import_module(f"benchmarks.{name}").run(Path(work))
        except Exception:
            traceback.print_exc()
            failed.append(name)
            continue
        print("\n".join(figure.row() for figure in measured), flush=True)
        figures += measured
        _keep(figures, started_at)
    for name in failed:
        print(f"{name} could not be measured; see the error above.", file=sys.stderr)
    return 0 if not failed and all(figure.met for figure in figures) else 1


def _keep(figures: list[Figure], started_at: datetime.datetime) -> None:
    folder = _HERE / "results"
    folder.mkdir(exist_ok=True)
    path = folder / f"{started_at:%Y-%m-%dT%H%M%SZ}.json"
    path.write_text(
        json.dumps(
            {
                "measured_at": started_at.isoformat(),
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
