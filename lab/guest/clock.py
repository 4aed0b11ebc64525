"""Keep the machine's clock right, and say on the serial console that the machine is up.

A machine that was suspended still has the old time. This runs inside the guest and imports nothing
of the project.
"""

import socket
import sys
import time
from pathlib import Path

INTERVAL_SECONDS = 2.0
LARGEST_ERROR_SECONDS = 5.0
HARDWARE_CLOCK = Path("/sys/class/rtc/rtc0/since_epoch")


def keep_time() -> bool:
    """Set the system's clock from the hardware clock if they are far apart; return whether."""
    try:
        seconds = int(HARDWARE_CLOCK.read_text())
    except (OSError, ValueError):
        return False
    if abs(time.time() - seconds) <= LARGEST_ERROR_SECONDS:
        return False
    time.clock_settime(time.CLOCK_REALTIME, seconds)
    return True


def run(console: Path) -> None:
    """Keep the time forever."""
    say(console, f"{socket.gethostname()} is up")
    while True:
        if keep_time():
            say(console, f"the clock is set to {int(time.time())}")
        time.sleep(INTERVAL_SECONDS)


def say(console: Path, text: str) -> None:
    """Write a line for programs outside."""
    with console.open("w") as line:
        line.write(f"\r\nlab: {text}\r\n")


if __name__ == "__main__":
    run(Path(sys.argv[1]))
