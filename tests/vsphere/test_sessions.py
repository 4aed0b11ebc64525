"""Who is signed in: sessions that are shared, their name, their language and what they are for."""

from collections.abc import Iterator

import pytest

from agent.version import VERSION
from lab.vcsim.process import Vcsim
from tests.places.vcsim import credentials_of
from tests.places.waiting import wait_until
from tests.vsphere.site import World
from vsphere import Credentials, SharedSessions
from vsphere.errors import NoPermission, VSphereUnreachable


@pytest.fixture
def sessions() -> Iterator[SharedSessions]:
    """A process's sessions."""
    shared = SharedSessions()
    yield shared
    shared.end_all()


def sign_ins(vcsim: Vcsim) -> int:
    return int(vcsim.served()["sign_ins"])


def test_one_use_after_the_other_signs_in_once(
    vcsim: Vcsim, credentials: Credentials, sessions: SharedSessions
) -> None:
    before, live = sign_ins(vcsim), vcsim.served()["sessions"]
    for _ in range(3):
        with sessions.lend(credentials) as session:
            session.inventory()
    assert sign_ins(vcsim) == before + 1
    assert vcsim.served()["sessions"] == live + 1
    sessions.end_all()
    assert vcsim.served()["sessions"] == live


def test_a_session_that_ended_between_two_uses_is_signed_in_again(
    vcsim: Vcsim, credentials: Credentials, sessions: SharedSessions
) -> None:
    before = sign_ins(vcsim)
    for _ in range(2):
        with sessions.lend(credentials) as session:
            assert session.inventory().datacenters
        vcsim.faults(expire_sessions=True)
    assert sign_ins(vcsim) == before + 2


def test_two_uses_at_once_and_other_credentials_have_sessions_of_their_own(
    vcsim: Vcsim, credentials: Credentials, sessions: SharedSessions
) -> None:
    with sessions.lend(credentials) as one, sessions.lend(credentials) as two:
        assert one is not two
    others = credentials_of(vcsim, ca_path=vcsim.certificate_path)
    with sessions.lend(others) as three:
        assert three not in (one, two)


def test_a_use_that_fails_gives_its_session_back(
    vcsim: Vcsim, credentials: Credentials, sessions: SharedSessions
) -> None:
    before = sign_ins(vcsim)
    with pytest.raises(ZeroDivisionError), sessions.lend(credentials):
        raise ZeroDivisionError
    with sessions.lend(credentials):
        pass
    assert sign_ins(vcsim) == before + 1


def test_idle_sessions_end(vcsim: Vcsim, credentials: Credentials) -> None:
    live = vcsim.served()["sessions"]
    sessions = SharedSessions(idle_seconds=0.2)
    with sessions.lend(credentials):
        assert vcsim.served()["sessions"] == live + 1
    wait_until(lambda: vcsim.served()["sessions"] == live)


def test_calls_in_a_hurry_end_together(world: World) -> None:
    """The limit of all calls ends the first that does not fit, and nothing is repeated."""
    calls = world.session.calls
    with calls.hurrying(call_seconds=10, limit_seconds=10):
        assert world.session.inventory().datacenters
        over = pytest.raises(VSphereUnreachable, match="Read the inventory")
        with calls.hurrying(call_seconds=10, limit_seconds=0), over:
            world.session.inventory()
        assert world.session.inventory().datacenters
    assert calls.door.patience.ends_at_seconds is None


def test_a_session_has_the_product_s_name(world: World) -> None:
    assert world.vcsim.served()["user_agents"].keys() == {f"Understudy/{VERSION}"}


def test_calls_say_what_they_are_for(
    vcsim: Vcsim, credentials: Credentials, sessions: SharedSessions
) -> None:
    with sessions.lend(credentials, operation="understudy-job-1") as session:
        vcsim.faults(expire_sessions=True)  # the next session says it, too
        session.inventory()
    with sessions.lend(credentials) as session:
        before = vcsim.served()["operations"]
        session.inventory()
    assert vcsim.served()["operations"] == before
    assert before["understudy-job-1"] > 2


def test_quoted_faults_are_in_english_whatever_the_account_prefers(world: World) -> None:
    world.vcsim.faults(answers=[{"call": "CreateContainerView", "answer": "no_permission"}])
    manager = world.session.calls.content.viewManager
    with pytest.raises(Exception, match="The call is refused"):
        manager.CreateContainerView(
            container=world.session.calls.content.rootFolder, recursive=True
        )
    with pytest.raises(NoPermission):
        world.session.inventory()
