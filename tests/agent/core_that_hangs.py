"""A core that stops in mid-stream and waits to be killed; run by a test as a process."""

import sys
import time
from pathlib import Path

from agent.client import AgentClient, CoreCredentials


class HangingSink:
    """Takes the beginning of a disk and nothing more."""

    def begin_disk(
        self, number: int, key: str, capacity_bytes: int, cid: str, has_parent: bool
    ) -> None:
        pass

    def write(self, number: int, data: memoryview) -> None:
        sys.stdout.write("in mid-stream\n")
        sys.stdout.flush()
        time.sleep(600)

    def put_digests(self, number: int, first_grain: int, digests: bytes) -> None:
        pass

    def parent_digests(self, number: int, first_grain: int, count: int) -> bytes:
        return bytes(16 * count)

    def finish_disk(self, number: int, length_bytes: int, digest_hex: str) -> None:
        pass


if __name__ == "__main__":
    port, certificate, key, agent_certificate = sys.argv[1:]
    AgentClient(
        "127.0.0.1",
        int(port),
        CoreCredentials(Path(certificate), Path(key)),
        Path(agent_certificate).read_text(),
    ).take_snapshot(HangingSink())
