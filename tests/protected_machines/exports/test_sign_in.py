"""Signing in to a vCenter for jobs: shared sessions, and no account locked by repeated refusals."""

import threading
import uuid
from collections.abc import Iterator
from functools import partial

import pytest
from celery.signals import worker_process_shutdown
from django.test import Client
from django.urls import reverse

from console.jobs.workflow import Waiting
from lab.vcsim.process import Vcsim
from protected_machines.agents.finding import Search
from protected_machines.errors import SignInStopped
from protected_machines.exports import vcenters
from protected_machines.exports.job_vm import JobVm
from protected_machines.exports.vcenters import connect, lend_session, refusal_notice
from protected_machines.locks import alone
from protected_machines.models import VCenter
from tests.reading import as_read
from tests.reports import may_act
from vsphere.errors import VSphereUnreachable, WrongPassword

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def signed_out() -> Iterator[None]:
    """Each test begins without sessions of those before."""
    vcenters.sessions.end_all()
    yield
    vcenters.sessions.end_all()


@pytest.fixture
def refusing(vcenter: VCenter) -> VCenter:
    """A vCenter whose password was changed there, but not here."""
    vcenter.password = "the old one"
    vcenter.save(update_fields=["password_encrypted"])
    return vcenter


def refused(vcsim: Vcsim) -> int:
    return int(vcsim.served()["refused"])


def test_the_jobs_of_a_worker_share_a_session(vcenter: VCenter, vcsim: Vcsim) -> None:
    before = vcsim.served()["sign_ins"]
    for number in range(3):
        vm = JobVm(vcenter.pk, f"no such marker {number}", may_act, operation=f"job-{number}")
        assert not vm.exists()
    served = vcsim.served()
    assert served["sign_ins"] == before + 1
    assert {"job-0", "job-1", "job-2"} <= served["operations"].keys()


def test_a_worker_that_stops_signs_out(vcenter: VCenter, vcsim: Vcsim) -> None:
    before = vcsim.served()["sessions"]
    with lend_session(vcenter):
        pass
    assert vcsim.served()["sessions"] == before + 1
    worker_process_shutdown.send(sender=None, pid=0, exitcode=0)
    assert vcsim.served()["sessions"] == before


def test_a_look_waits_while_nothing_answers(vcenter: VCenter, vcsim: Vcsim) -> None:
    vm = JobVm(vcenter.pk, "no such marker", may_act)
    search = Search(uuid.uuid4())
    vcsim.faults(answers=[{"answer": "lost"}])
    try:
        for look in (vm.exists, vm.is_on, partial(vm.wait_for_guest, search), vm.power_on):
            with pytest.raises(Waiting, match="continues once DR vCenter") as caught:
                look()
            assert isinstance(caught.value.__cause__, VSphereUnreachable)
    finally:
        vcsim.no_faults()
    assert not vm.exists()


def test_a_refused_password_is_tried_once(
    refusing: VCenter, vcsim: Vcsim, admin_client: Client
) -> None:
    before = refused(vcsim)
    with pytest.raises(WrongPassword), lend_session(refusing):
        pass
    for _ in range(3):
        with pytest.raises(SignInStopped), lend_session(VCenter.objects.get()):
            pass
        with pytest.raises(SignInStopped), connect(VCenter.objects.get()):
            pass
        with pytest.raises(Waiting, match="refused the account"):
            JobVm(refusing.pk, "marker", may_act).exists()
    assert refused(vcsim) == before + 1
    shown = as_read(admin_client.get("/"))
    assert shown.count("A vCenter refuses the account") == 1
    assert "MACHINE-VCENTER-SIGN-IN-STOPPED" in shown
    settings = as_read(admin_client.get(reverse("console:settings")))
    listed = settings.partition('id="vcenters"')[2].partition("</section>")[0]
    assert "Account refused" in listed
    assert "Signed in" not in listed


def test_a_refused_page_stops_the_jobs_too(refusing: VCenter, vcsim: Vcsim) -> None:
    before = refused(vcsim)
    with pytest.raises(WrongPassword), connect(refusing):
        pass
    with pytest.raises(SignInStopped), lend_session(VCenter.objects.get()):
        pass
    assert refused(vcsim) == before + 1


def test_the_right_password_lets_everybody_in_again(
    refusing: VCenter, vcsim: Vcsim, admin_client: Client
) -> None:
    with pytest.raises(WrongPassword), lend_session(refusing):
        pass
    url = reverse("protected_machines:vcenter-password", args=[refusing.pk])
    admin_client.post(url, {"username": vcsim.username, "password": vcsim.password})
    with lend_session(VCenter.objects.get()) as session:
        assert session.inventory().datacenters
    assert refusal_notice() is None


def test_a_test_of_the_connection_is_a_persons_own_try(
    refusing: VCenter, vcsim: Vcsim, admin_client: Client
) -> None:
    """The account may be right, and the server that knows it was away."""
    before = refused(vcsim)
    check = reverse("protected_machines:vcenter-check", args=[refusing.pk])
    admin_client.post(check)
    assert refused(vcsim) == before + 1
    assert refusal_notice() is not None
    refusing.password = vcsim.password
    VCenter.objects.update(password_encrypted=refusing.password_encrypted)
    assert refusal_notice() is not None
    admin_client.post(check)
    assert refusal_notice() is None


def test_a_refusal_of_an_account_that_was_changed_meanwhile_stops_nobody(
    refusing: VCenter, vcsim: Vcsim
) -> None:
    stale = VCenter.objects.get()
    refusing.password = vcsim.password
    refusing.save(update_fields=["password_encrypted"])
    with pytest.raises(WrongPassword), lend_session(stale):
        pass
    assert refusal_notice() is None
    with lend_session(VCenter.objects.get()):
        pass


def test_a_worker_that_was_about_to_try_hears_of_the_refusal(
    refusing: VCenter, vcsim: Vcsim
) -> None:
    before, about_to = refused(vcsim), VCenter.objects.get()
    with pytest.raises(WrongPassword), lend_session(refusing):
        pass
    with pytest.raises(SignInStopped), lend_session(about_to):
        pass
    assert refused(vcsim) == before + 1


def test_workers_sign_in_one_after_the_other(redis_url: str) -> None:
    is_asking, happened = threading.Event(), []

    def second() -> None:
        is_asking.set()
        with alone("sign-in", 60) as keep_alive:
            assert keep_alive is not None
            happened.append("second")

    thread = threading.Thread(target=second)
    with alone("sign-in"):
        thread.start()
        assert is_asking.wait(60)
        happened.append("first")
    thread.join(60)
    assert happened == ["first", "second"]
