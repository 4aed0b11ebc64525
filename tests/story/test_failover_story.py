"""The main story: Headquarters is lost, and its machines run again at the DR site."""

from pathlib import Path

import pytest

from tests.story.conftest import FailedOver
from tests.story.journal import check_goes_on, journal_of_point
from tests.story.two_sites import Lab

pytestmark = [pytest.mark.live, pytest.mark.slow]


def test_the_machines_of_a_lost_site_run_at_the_dr_site(
    lab: Lab, failed_over: FailedOver, tmp_path: Path
) -> None:
    before = journal_of_point(lab, "target", failed_over.lost_point_ids["db-01"], tmp_path)
    after = journal_of_point(lab, "target", failed_over.forced_point_id, tmp_path)
    check_goes_on(before, after)
    lab.command("-m", "recovery_store", "check", lab.store("target"))
