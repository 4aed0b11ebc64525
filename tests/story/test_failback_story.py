"""Headquarters is lost, its machines run at the DR site, and go back; all of that twice.

The first time the lost core comes back, the second time a newly installed one takes its place. Both
tests are told of the same two sites, so they are in one file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.story.checks import (
    check_that_it_stayed_behind,
    check_that_the_old_core_knows,
    check_the_journal,
    fail_back_as_quoted,
    vm_folders,
)
from tests.story.console import Console, OpenConsole
from tests.story.failing_back import add_source_core, commit, repair, roll_back
from tests.story.failing_over import (
    fail_over,
    leave_unsent,
    lose_headquarters,
    wait_for_incrementals,
)
from tests.story.journal import check_goes_on, journal_of_point
from tests.story.two_sites import Lab, running_lab

pytestmark = [pytest.mark.slow, pytest.mark.guests, pytest.mark.browser, pytest.mark.full]

MACHINES = ("db-01", "web-01")
PORT_SHIFT = 20_000


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two sites with both machines, booted."""
    with running_lab(MACHINES, PORT_SHIFT) as lab:
        yield lab


@dataclass(frozen=True)
class FailedOver:
    """The machines run at the DR site: where the story stands then."""

    target: Console
    # The recovery point that each machine went on from.
    lost_point_ids: dict[str, str]
    # A point of db-01 that Headquarters took and never sent.
    unsent_point_id: str
    # One that was taken at the DR site.
    forced_point_id: str


@pytest.fixture(scope="module")
def failed_over(lab: Lab, open_console: OpenConsole) -> FailedOver:
    """Headquarters is lost with a point that it had not sent; its machines are failed over."""
    wait_for_incrementals(lab)
    unsent_point_id = leave_unsent(open_console("source"), "db-01")
    lose_headquarters(lab)
    lost = {name: lab.newest_point_id("target", name) for name in MACHINES}
    target = open_console("target")
    fail_over(target, MACHINES)
    return FailedOver(target, lost, unsent_point_id, target.force_a_snapshot("db-01"))


def test_the_machines_of_a_lost_site_run_at_the_dr_site(
    lab: Lab, failed_over: FailedOver, tmp_path: Path
) -> None:
    before = journal_of_point(lab, "target", failed_over.lost_point_ids["db-01"], tmp_path)
    after = journal_of_point(lab, "target", failed_over.forced_point_id, tmp_path)
    check_goes_on(before, after)
    lab.command("-m", "recovery_store", "check", lab.store("target"))


def test_failover_and_failback_twice_in_a_row(
    lab: Lab, failed_over: FailedOver, open_console: OpenConsole, tmp_path: Path
) -> None:
    target = failed_over.target
    at_the_dr_site = journal_of_point(lab, "target", failed_over.forced_point_id, tmp_path)

    # The lost core comes back, and learns that it owns the machines no longer.
    repair(lab, "kept")
    headquarters = open_console("source")
    check_that_the_old_core_knows(headquarters, failed_over.unsent_point_id)
    headquarters.open_replication()
    headquarters.choose(headquarters.row("db-01"), "Resume")
    figures = fail_back_as_quoted(target, MACHINES)
    at_the_freeze = check_the_journal(lab, figures["db-01"], at_the_dr_site, tmp_path)
    for name in MACHINES:
        headquarters.wait_for_entry(name, "online")
    check_that_it_stayed_behind(lab, failed_over.unsent_point_id)
    # One of them is run at the DR site again.
    roll_back(target, "web-01")
    commit(target, "db-01")
    target.wait_for_entry("web-01", "online")
    assert vm_folders(lab) == {"web-01": vm_folders(lab)["web-01"]}

    # Headquarters is lost again, for good this time: the other machine fails over anew.
    lose_headquarters(lab)
    fail_over(target, ["db-01"])
    at_the_dr_site = journal_of_point(lab, "target", target.force_a_snapshot("db-01"), tmp_path)
    check_goes_on(at_the_freeze, at_the_dr_site)
    repair(lab, "new")
    headquarters = open_console("source")
    add_source_core(target, headquarters)
    figures = fail_back_as_quoted(target, MACHINES)
    check_the_journal(lab, figures["db-01"], at_the_dr_site, tmp_path)
    for name in MACHINES:
        headquarters.wait_for_entry(name, "online")
        commit(target, name)
    assert vm_folders(lab) == {}
    for site in ("source", "target"):
        lab.command("-m", "recovery_store", "check", lab.store(site))
