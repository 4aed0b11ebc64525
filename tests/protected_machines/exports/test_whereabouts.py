"""At a step that looks for its machine, a person sees its screen and can say where it is."""

import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from console.jobs.acts import start_job
from console.jobs.choices import JobState, StepState
from console.jobs.models import Job
from lab.vcsim.process import Vcsim
from protected_machines.agents.finding import Search
from protected_machines.models import Machine, TypedAddress, VCenter
from protected_machines.restores.workflow import RestoreParams
from tests.factories import make_machine
from tests.vsphere.screens import PICTURE, showing

pytestmark = pytest.mark.django_db


@pytest.fixture
def machine() -> Machine:
    return make_machine(name="db-01", host="192.0.2.5", port=8007)


@pytest.fixture
def job(machine: Machine) -> Job:
    """A restore that waits for its machine."""
    params = RestoreParams(uuid.uuid4(), uuid.uuid4(), is_protected_there=True)
    job = start_job("restore", machine.pk, machine.name, params)
    Job.objects.filter(pk=job.pk).update(state=JobState.RUNNING, current_step="wait_for_machine")
    job.steps.filter(name="wait_for_machine").update(state=StepState.WAITING)
    return Job.objects.get(pk=job.pk)


@pytest.fixture
def client(admin_user: Any) -> Client:
    client = Client()
    client.force_login(admin_user)
    return client


def url(name: str, job: Job) -> str:
    return reverse(f"protected_machines:{name}", args=[job.pk])


def look_at(client: Client, job: Job, host: str, port: object = 8006) -> Any:
    return client.post(url("job-address", job), {"host": host, "port": port})


def test_the_page_of_the_job_asks_for_the_address(client: Client, job: Job) -> None:
    page = client.get(job.get_absolute_url()).content.decode()
    assert f'action="{url("job-address", job)}"' in page
    assert 'value="8007"' in page
    # It runs in no VM, so there is no screen to show.
    assert url("job-screen", job) not in page


def test_the_machine_is_looked_for_where_a_person_says_first_of_all(
    client: Client, job: Job, machine: Machine
) -> None:
    for host in ("192.0.2.66", " [2001:db8::7] "):
        answer = look_at(client, job, host)
        assert (answer.status_code, answer["Location"]) == (303, job.get_absolute_url())
    places = Search(machine.pk, job.pk).places()
    assert [str(place) for place in places] == ["[2001:db8::7]:8006 (typed by admin)"]
    assert not places[0].is_certain
    assert Search(machine.pk, uuid.uuid4()).places() == []
    assert Search(machine.pk).places() == []
    assert "2001:db8::7" in client.get(job.get_absolute_url()).content.decode()


@pytest.mark.parametrize(
    ("host", "port"),
    [
        *(("", 8006), ("two words", 8006), ("-", 8006), ("300.1.2.3", 8006), ("a/b", 8006)),
        *(("192.0.2.66", 0), ("192.0.2.66", 65536), ("192.0.2.66", "http"), ("x" * 254, 8006)),
    ],
)
def test_what_is_no_address_is_refused(client: Client, job: Job, host: str, port: object) -> None:
    assert look_at(client, job, host, port).status_code == 409
    assert not TypedAddress.objects.exists()


def test_a_job_that_looks_for_nothing_takes_no_address(client: Client, job: Job) -> None:
    job.steps.update(state=StepState.SUCCEEDED)
    assert look_at(client, job, "192.0.2.66").status_code == 409
    assert not TypedAddress.objects.exists()
    page = client.get(job.get_absolute_url()).content.decode()
    assert url("job-address", job) not in page
    assert client.get(url("job-screen", job)).status_code == 286
    assert client.get(url("job-screenshot", job)).status_code == 404


def test_nobody_else_says_where_it_is(job: Job) -> None:
    for name in ("job-address", "job-screen", "job-screenshot"):
        method = Client().post if name == "job-address" else Client().get
        assert method(url(name, job)).status_code == 302
    assert not TypedAddress.objects.exists()


def test_the_methods_are_the_right_ones(client: Client, job: Job) -> None:
    assert client.get(url("job-address", job)).status_code == 405
    assert client.post(url("job-screen", job)).status_code == 405
    assert client.post(url("job-screenshot", job)).status_code == 405


def test_a_vm_s_screen_is_shown(
    client: Client, job: Job, machine: Machine, vcenter: VCenter, vcsim: Vcsim
) -> None:
    moid = "vm-4711"
    Machine.objects.filter(pk=machine.pk).update(vcenter=vcenter, vm_moid=moid)
    # What is restored onto a computer has no screen here, whatever VM the machine ran in.
    assert url("job-screen", job) not in client.get(job.get_absolute_url()).content.decode()
    Job.objects.filter(pk=job.pk).update(current_step="wait_for_agent")
    job.steps.filter(name="wait_for_machine").update(name="wait_for_agent")
    assert url("job-screen", job) in client.get(job.get_absolute_url()).content.decode()
    frame = client.get(url("job-screen", job)).content.decode()
    assert f'src="{url("job-screenshot", job)}?at=' in frame
    (vcsim.uploads / moid).mkdir(exist_ok=True)
    with showing(vcsim, moid):
        answer = client.get(url("job-screenshot", job))
    assert (answer["Content-Type"], answer.content) == ("image/png", PICTURE)
    assert answer["Cache-Control"] == "no-store"
    with showing(vcsim, moid, None):
        answer = client.get(url("job-screenshot", job))
    assert answer.status_code == 502
    assert b"CreateScreenshot" in answer.content
