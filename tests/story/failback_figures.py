"""What the core that led a failback measured of it: run in that core's environment.

`python -m tests.story.failback_figures FAILBACK` prints one JSON object, by machine.
"""

import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import Any

from tests.story.two_sites import Lab


@dataclass(frozen=True)
class Figures:
    """One machine's failback: its quote, what was sent, and how long it stood still."""

    final_point_id: str
    quoted_send_bytes: int
    sent_bytes: int
    quoted_down_seconds: float
    # From the freeze until the machine's agent answered at its source.
    down_seconds: float
    # By step, in their order.
    seconds: dict[str, float]
    is_history_whole: bool

    @property
    def overhead_seconds(self) -> float:
        """How long it stood still beyond the final delta's transfer and its own boot."""
        return self.down_seconds - sum(self.seconds[name] for name in EXCUSED_STEPS)

    def describe(self) -> str:
        parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items())
        return (
            f"sent {self.sent_bytes} bytes, quoted {self.quoted_send_bytes}; stood still "
            f"{self.down_seconds:.1f} s, quoted {self.quoted_down_seconds:.0f} s: {parts}, "
            f"beyond that {self.overhead_seconds:.1f} s"
        )


# The final delta's way to the machine, and the machine's own boot. What the final point takes, with
# the freeze and the search for what changed, counts as standing still.
EXCUSED_STEPS = ("send_final_point", "restore_final_delta", "boot_machine")


def read_figures(lab: Lab, failback_url: str) -> dict[str, Figures]:
    """Return the figures of a failback, by machine, as the target core has them."""
    failback_id = failback_url.rstrip("/").rsplit("/", 1)[-1]
    said = lab.command("-m", "tests.story.failback_figures", failback_id, site="target").stdout
    return {name: Figures(**figures) for name, figures in json.loads(said).items()}


def _gather(failback_id: str) -> dict[str, Any]:
    from console.jobs.models import Job
    from replication.models import FailbackMachine

    found = {}
    for entry in FailbackMachine.objects.filter(failback_id=failback_id).select_related("machine"):
        job = Job.objects.get(
            kind="failback",
            group_id=failback_id,
            subject_id=entry.machine_id,
            state="succeeded",
        )
        steps = {step.name: step for step in job.steps.all()}
        down = steps["boot_machine"].finished_at - steps["final_point"].started_at
        figures = Figures(
            final_point_id=steps["power_off_vm"].output["final_point_id"],
            quoted_send_bytes=entry.quote["send_bytes"],
            sent_bytes=sum(
                steps[name].output["sent_bytes"]
                for name in ("send_points", "send_last_running_point", "send_final_point")
            ),
            quoted_down_seconds=entry.quote["down_seconds"],
            down_seconds=down.total_seconds(),
            seconds={name: steps[name].seconds for name in ("final_point", *EXCUSED_STEPS)},
            is_history_whole=steps["replicate_again"].output["builds_on_final_point"],
        )
        found[entry.machine.name] = asdict(figures)
    return found


if __name__ == "__main__":
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    django.setup()
    sys.stdout.write(json.dumps(_gather(sys.argv[1])))
