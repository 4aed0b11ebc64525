"""Signing in, being refused, and sessions that end too early."""

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lab.vcsim.process import Vcsim, write_certificate
from tests.places.vcsim import credentials_of
from tests.vsphere.site import World
from vsphere import Credentials, connect, fetch_thumbprint
from vsphere.api import vim
from vsphere.door import Door
from vsphere.errors import (
    CertificateChanged,
    SessionLost,
    ThumbprintUnusable,
    VSphereUnreachable,
    WrongPassword,
)


def test_the_thumbprint_shown_is_the_one_accepted(vcsim: Vcsim) -> None:
    shown = fetch_thumbprint(vcsim.host, vcsim.port)
    assert shown == vcsim.thumbprint
    with connect(credentials_of(vcsim, thumbprint=shown)) as session:
        assert session.about().is_vcenter


@pytest.mark.parametrize("form", [str.lower, lambda text: text.replace(":", "")])
def test_a_thumbprint_is_read_in_every_usual_form(vcsim: Vcsim, form: Callable[[str], str]) -> None:
    with connect(credentials_of(vcsim, thumbprint=form(vcsim.thumbprint))) as session:
        assert session.about().version == "7.0.0"


def test_a_wrong_password_is_refused_in_words(credentials: Credentials) -> None:
    with (
        pytest.raises(WrongPassword, match=r"Check the user name and password") as caught,
        connect(replace(credentials, password="wrong")),
    ):
        pass
    assert caught.value.code == "VSPHERE-WRONG-PASSWORD"
    assert credentials.host in str(caught.value)


def test_a_password_is_in_no_text(credentials: Credentials) -> None:
    assert credentials.password not in repr(credentials)


def test_another_certificate_is_refused_before_anything_is_sent(credentials: Credentials) -> None:
    with (
        pytest.raises(CertificateChanged, match="someone may be intercepting"),
        connect(replace(credentials, thumbprint="AB" * 32)),
    ):
        pass


@pytest.mark.parametrize("pin", ["AB", "not a thumbprint", "GG" * 32, "AB:" * 33])
def test_what_is_no_thumbprint_is_refused_before_anything_is_sent(pin: str) -> None:
    with pytest.raises(ThumbprintUnusable, match="no thumbprint") as caught:
        Door(Credentials("192.0.2.1", 443, "user", "password", pin), 30)
    assert caught.value.code == "VSPHERE-THUMBPRINT"


def test_a_trusted_authority_needs_no_thumbprint(vcsim: Vcsim) -> None:
    trusting = credentials_of(vcsim, thumbprint=None, ca_path=vcsim.certificate_path)
    with connect(trusting) as session:
        assert session.about().is_vcenter


def test_an_unknown_authority_is_refused_even_on_loopback(vcsim: Vcsim, tmp_path: Path) -> None:
    other, _ = write_certificate(tmp_path)
    for ca_path in (None, other):
        strange = credentials_of(vcsim, thumbprint=None, ca_path=ca_path)
        with (
            pytest.raises(VSphereUnreachable, match="certificate is not trusted"),
            connect(strange),
        ):
            pass


def test_a_closed_port_is_named_with_its_address() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    nobody = Credentials("127.0.0.1", port, "somebody", "something", "AB" * 32)
    with pytest.raises(VSphereUnreachable, match=f"127.0.0.1:{port}"), connect(nobody):
        pass
    with pytest.raises(VSphereUnreachable):
        fetch_thumbprint("127.0.0.1", port)


def test_a_server_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        mute = Credentials("127.0.0.1", port, "somebody", "something", "AB" * 32)
        with pytest.raises(VSphereUnreachable), connect(mute, timeout_seconds=0.5):
            pass


def test_reads_go_on_in_a_new_session(world: World) -> None:
    before = world.session.inventory()
    world.vcsim.faults(expire_sessions=True)
    assert world.session.inventory() == before


def test_a_write_is_done_once_in_a_new_session(world: World) -> None:
    vm = world.session.get_vm(world.import_one())
    world.vcsim.faults(expire_sessions=True)
    vm.power_on()
    assert world.session.get_vm(vm.moid).is_on


def test_an_unused_session_ends_and_is_replaced(start: Callable[..., Vcsim]) -> None:
    simulator = start(session_timeout=1)
    with connect(credentials_of(simulator)) as session:
        key = session.calls.content.sessionManager.currentSession.key
        for _ in range(3):
            assert session.calls.content.sessionManager.currentSession.key == key
        simulator.faults(expire_sessions=True)
        assert session.inventory().hosts
        assert session.calls.content.sessionManager.currentSession.key != key


def test_the_session_ends_with_the_block_also_after_a_failure(vcsim: Vcsim) -> None:
    with connect(credentials_of(vcsim)) as watcher:

        def sessions() -> int:
            return len(watcher.calls.content.sessionManager.sessionList)

        def fail() -> None:
            with connect(credentials_of(vcsim)):
                assert sessions() == before + 1
                raise RuntimeError

        before = sessions()
        with pytest.raises(RuntimeError):
            fail()
        assert sessions() == before


def test_a_server_in_trouble_is_named_as_such(world: World) -> None:
    world.vcsim.faults(fail_call="RetrievePropertiesEx")
    with pytest.raises(VSphereUnreachable, match="HostCommunication"):
        world.session.inventory()


def break_once(world: World, call: str) -> None:
    """Cut the connection over which the server is called like that next."""
    world.vcsim.faults(answers=[{"call": call, "answer": "lost", "times": 1}])


def test_a_read_is_repeated_after_a_broken_connection(world: World) -> None:
    before = world.session.inventory()
    break_once(world, "RetrievePropertiesEx")
    assert world.session.inventory() == before


def test_a_write_is_not_repeated_after_a_broken_connection(world: World) -> None:
    tried: list[object] = []

    def write(stub: object) -> None:
        tried.append(stub)
        vim.Folder(world.inventory.datacenters[0].folder, stub).CreateFolder(name="twice")

    break_once(world, "CreateFolder")
    with pytest.raises(VSphereUnreachable, match="Make a folder: the connection failed"):
        world.session.calls.writing("Make a folder", write)
    assert len(tried) == 1


def test_a_session_that_ends_again_at_once_is_given_up(world: World) -> None:
    def read(content: object) -> None:
        world.vcsim.faults(expire_sessions=True)
        world.session.calls.content.rootFolder.Destroy_Task()

    with pytest.raises(SessionLost, match="Read on: NotAuthenticated"):
        world.session.calls.reading("Read on", read)
    with pytest.raises(SessionLost, match="Write on: NotAuthenticated"):
        world.session.calls.writing("Write on", read)
