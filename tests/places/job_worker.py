"""Work on the jobs of the core that the environment names, until killed.

It stands in for that core's Celery workers, with the real engine. Like them it survives what a job
raises: between two tests, the rows of a job that it works on are deleted.
"""

import logging
import time

import django

django.setup()

from django.db import connection  # noqa: E402

from console.jobs import engine  # noqa: E402
from console.jobs.models import Job  # noqa: E402
from tests.places.quick_pairing import set_pairing_cost  # noqa: E402

PAUSE_SECONDS = 0.1


def main() -> None:
    set_pairing_cost(is_real=False)
    while True:
        version = _data_version()
        job_ids = list(Job.objects.open().values_list("id", flat=True))
        for job_id in job_ids:
            try:
                engine.run_job(job_id, send=lambda _job, _delay: True)
            except Exception:
                logging.exception("job broke job=%s", job_id)
        time.sleep(PAUSE_SECONDS)
        # Most of the time there is nothing to do. To see that, this costs least.
        while not job_ids and _data_version() == version:
            time.sleep(PAUSE_SECONDS)


def _data_version() -> int:
    """Return a number that changes when another process has written to the database."""
    with connection.cursor() as cursor:
        version: int = cursor.execute("PRAGMA data_version").fetchone()[0]
    return version


if __name__ == "__main__":
    main()
