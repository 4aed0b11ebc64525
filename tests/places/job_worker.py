"""Work on the jobs of the core that the environment names, until killed.

It stands in for that core's Celery workers, with the real engine. Like them it survives what a job
raises: between two tests, the rows of a job that it works on are deleted.
"""

import logging
import time

import django

django.setup()

from console.jobs import engine  # noqa: E402
from console.jobs.models import Job  # noqa: E402
from tests.places.quick_pairing import set_pairing_cost  # noqa: E402


def main() -> None:
    set_pairing_cost(is_real=False)
    while True:
        for job_id in list(Job.objects.open().values_list("id", flat=True)):
            try:
                engine.run_job(job_id, send=lambda _job, _delay: True)
            except Exception:
                logging.exception("job broke job=%s", job_id)
        time.sleep(0.1)


if __name__ == "__main__":
    main()
