"""DR status in a real browser: no cell runs into the next one."""

import pytest
from playwright.sync_api import Page
from pytest_django.live_server_helper import LiveServer

from protected_machines.choices import ConnectionState, PointState
from recovery_store.store import Store
from tests.factories import DESCRIPTION, NOON
from tests.replication.rows import make_pairing, make_replica, make_replicated, make_stored_point

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.django_db(transaction=True)]

# The contents of each cell that reach beyond its edges.
OVERFLOWING = """
[...document.querySelectorAll(".grid-status :is(td, tbody th)")]
  .filter(cell => cell.scrollWidth > cell.clientWidth)
  .map(cell => cell.innerText)
"""


@pytest.mark.parametrize("width", [1280, 400])
def test_no_cell_runs_into_the_next(
    store: Store, page: Page, live_server: LiveServer, width: int
) -> None:
    pairing = make_pairing(direction="incoming", connection_state=ConnectionState.UNREACHABLE)
    machine = make_replica(pairing)
    make_stored_point(machine, DESCRIPTION, state=PointState.PROVEN, taken_at=NOON)
    make_replicated(pairing, machine, last_point_at=NOON)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{live_server.url}/status/")
    shown = page.locator(".grid-status").inner_text()
    assert "perhaps the only one" in shown
    assert "Beyond 4× objective" in shown
    assert page.evaluate(OVERFLOWING) == []
