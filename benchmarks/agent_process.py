"""An agent in a separate process, for benchmarks."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.client import AgentClient, CoreCredentials, pair_with_agent

CODE = "BENCH-CODE-1234"
LIMIT_SECONDS = 30


@dataclass(frozen=True)
class RunningAgent:
    """A paired agent."""

    client: AgentClient
    process_id: int

    def peak_bytes(self) -> int:
        """Return the agent's peak memory."""
        for line in Path(f"/proc/{self.process_id}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("the kernel does not report the agent's peak memory")


@contextmanager
def running_agent(work: Path, disk: Path, mode: str = "protect") -> Iterator[RunningAgent]:
    """Start an agent that serves an image as its disk, or writes to it in mode `restore`."""
    configuration = work / "agent.json"
    entries = {
        "mode": mode,
        "address": "127.0.0.1",
        "port": 0,
        "pairing_code": CODE,
        "provider": "file",
        "disks": [{"key": "disk", "path": str(disk)}],
        "state_folder": str(work / "state"),
    }
    configuration.write_text(json.dumps(entries))
    process = subprocess.Popen(
        [sys.executable, "-m", "agent", "serve", "--configuration", str(configuration)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline().split()[-1])
        credentials = _make_credentials(work)
        paired = pair_with_agent("127.0.0.1", port, CODE, credentials, "bench")
        client = AgentClient("127.0.0.1", port, credentials, paired.certificate_pem)
        yield RunningAgent(client, process.pid)
    finally:
        process.kill()
        process.wait(LIMIT_SECONDS)
        process.stdout.close()


def _make_credentials(work: Path) -> CoreCredentials:
    credentials = CoreCredentials(work / "core.pem", work / "core.key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-subj", "/CN=bench"]
    command += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2"]
    command += ["-keyout", str(credentials.key_path), "-out", str(credentials.certificate_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=LIMIT_SECONDS)
    return credentials
