"""One machine is failed over to the DR site and back, in a browser: what every change must pass."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.places.waiting import wait_until
from tests.story.checks import (
    check_that_it_stayed_behind,
    check_that_the_old_core_knows,
    check_that_the_settings_disk_was_read_and_is_gone,
    check_the_journal,
    fail_back_as_quoted,
    vm_folders,
)
from tests.story.console import OpenConsole
from tests.story.failing_back import commit, repair
from tests.story.failing_over import fail_over, leave_unsent, lose_headquarters
from tests.story.journal import check_goes_on, journal_of_point
from tests.story.two_sites import Lab, running_lab

pytestmark = [pytest.mark.slow, pytest.mark.guests, pytest.mark.browser]

MACHINE = "db-01"
PORT_SHIFT = 21_000
# Points are taken when the story wants them; reading the disks costs more than all else.
INTERVAL_SECONDS = 86_400


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two sites and one machine, which was booted before and goes on from there."""
    with running_lab(
        (MACHINE,),
        PORT_SHIFT,
        UNDERSTUDY_LAB_RESUME="1",
        UNDERSTUDY_LAB_INTERVAL=str(INTERVAL_SECONDS),
    ) as lab:
        yield lab


def test_a_machine_runs_at_the_dr_site_and_at_its_own_again(
    lab: Lab, open_console: OpenConsole, tmp_path: Path
) -> None:
    # Ready means that a disaster in this very moment could be failed over.
    words = ("fail_over", "Headquarters", "--machine", MACHINE, "--check")
    lab.command("manage.py", *words, site="target")
    headquarters = open_console("source")
    sent_id = headquarters.force_a_snapshot(MACHINE)
    wait_until(
        lambda: lab.newest_point_id("target", MACHINE) == sent_id,
        "the forced snapshot at the DR site",
        300,
        detail=headquarters.text,
    )
    unsent_id = leave_unsent(headquarters, MACHINE)
    lose_headquarters(lab)

    target = open_console("target")
    fail_over(target, [MACHINE])
    check_that_the_settings_disk_was_read_and_is_gone(lab, MACHINE)
    before = journal_of_point(lab, "target", sent_id, tmp_path)
    at_the_dr_site = journal_of_point(lab, "target", target.force_a_snapshot(MACHINE), tmp_path)
    check_goes_on(before, at_the_dr_site)

    # The lost core comes back, and learns that it owns the machine no longer.
    repair(lab, "kept")
    headquarters = open_console("source")
    check_that_the_old_core_knows(headquarters, unsent_id)
    headquarters.open_replication()
    headquarters.choose(headquarters.row(MACHINE), "Resume")
    figures = fail_back_as_quoted(target, [MACHINE])
    check_the_journal(lab, figures[MACHINE], at_the_dr_site, tmp_path)
    headquarters.wait_for_entry(MACHINE, "online")
    check_that_it_stayed_behind(lab, unsent_id)
    commit(target, MACHINE)
    assert vm_folders(lab) == {}
    for site in ("source", "target"):
        lab.command("-m", "recovery_store", "check", lab.store(site))
