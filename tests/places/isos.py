"""ISO files that hold next to nothing, made as the medium's are."""

import subprocess
from pathlib import Path

from rescue_medium.facts import VOLUME_ID, application_id


def make_small_iso(path: Path, version: str = "0.1.0", volume_id: str = VOLUME_ID) -> Path:
    """Make an ISO that says it is a rescue medium, in a moment."""
    content = path.with_suffix(".content")
    content.mkdir(exist_ok=True)
    (content / "kernel").write_bytes(b"a kernel" * 1000)
    subprocess.run(
        [
            *("xorriso", "-as", "mkisofs", "-quiet", "-o", str(path), "-V", volume_id),
            *("-A", application_id(version), "-J", "-R", str(content)),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return path
