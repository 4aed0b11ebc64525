"""Pages of jobs: whole and as fragments, live and ended, acts and refusals."""

from pathlib import Path
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from console.jobs import engine
from console.jobs.choices import JobState
from console.jobs.models import Job
from console.jobs.testing import JumpingClock, fail_at, run_until_done
from tests.clocks import Clock
from tests.console.jobs.demo import start_demo

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
# Session, user, count, jobs of the page, their steps.
LIST_QUERIES = 5


def waiting_job(folder: Path) -> Job:
    job = start_demo(folder, waits=1000)
    engine.run_job(job.id, clock=JumpingClock(), send=lambda job, delay_seconds: True)
    job.refresh_from_db()
    return job


def failed_job(folder: Path, step: str = "copy") -> Job:
    job = start_demo(folder)
    with fail_at(step):
        return run_until_done(job)


def page_of(client: Client, job: Job, **options: object) -> str:
    return client.get(job.get_absolute_url(), **options).content.decode()


def test_the_list_shows_open_and_ended_jobs(admin_client: Client, tmp_path: Path) -> None:
    open_job, ended = waiting_job(tmp_path), run_until_done(start_demo(tmp_path))
    page = admin_client.get(reverse("jobs:jobs")).content.decode()
    assert f'id="job-{open_job.id}"' in page
    assert f'id="job-{ended.id}"' in page
    assert "Step 4 of 6: Wait for the courier" in page
    assert "The courier has not come yet." in page


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("state=open", {"waiting"}),
        ("state=done", {"done"}),
        ("state=failed", {"failed"}),
        ("state=attention", set()),
        ("machine=WEB", {"waiting", "done", "failed"}),
        ("machine=db-01", set()),
        ("state=nonsense&page=nonsense", {"waiting", "done", "failed"}),
    ],
)
def test_the_list_is_filtered(
    admin_client: Client, tmp_path: Path, query: str, shown: set[str]
) -> None:
    jobs = {
        "waiting": waiting_job(tmp_path),
        "done": run_until_done(start_demo(tmp_path)),
        "failed": failed_job(tmp_path),
    }
    page = admin_client.get(f"{reverse('jobs:jobs')}?{query}").content.decode()
    assert {name for name, job in jobs.items() if f'id="job-{job.id}"' in page} == shown


def test_the_list_needs_the_same_number_of_queries_for_any_number_of_jobs(
    admin_client: Client, tmp_path: Path, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for count in (2, 20):
        for _ in range(count):
            start_demo(tmp_path)
        with django_assert_num_queries(LIST_QUERIES):
            admin_client.get(reverse("jobs:jobs"), headers=HTMX)


def test_the_list_is_paged(admin_client: Client, tmp_path: Path) -> None:
    for _ in range(51):
        start_demo(tmp_path)
    page = admin_client.get(reverse("jobs:jobs")).content.decode()
    assert page.count('<tr id="job-') == 50
    second = admin_client.get(reverse("jobs:jobs"), {"page": "2"}).content.decode()
    assert second.count('<tr id="job-') == 1
    assert "Page 2 of 2" in second


def test_the_list_as_fragment_polls_only_while_something_is_open(
    admin_client: Client, tmp_path: Path, clock: Clock
) -> None:
    ended = run_until_done(start_demo(tmp_path))
    url = reverse("jobs:jobs")
    fragment = admin_client.get(url, headers=HTMX).content.decode()
    assert f"job-{ended.id}" in fragment
    assert "<html" not in fragment
    assert "hx-trigger" not in fragment
    waiting_job(tmp_path)
    clock.pass_time(2 * 3600)
    response = admin_client.get(url, headers=HTMX)
    assert "every 2s" in response.content.decode()
    seen = response.context["revision"]
    assert admin_client.get(url, {"seen": seen}, headers=HTMX).status_code == 204


def test_a_job_page_shows_its_steps_and_why_it_waits(admin_client: Client, tmp_path: Path) -> None:
    page = page_of(admin_client, waiting_job(tmp_path))
    assert "The courier has not come yet." in page
    assert "Cannot be undone from here on: it is on its way" in page
    assert page.count('<li class="step ') == 6


def test_a_job_page_polls_while_it_is_open_and_is_told_only_news(
    admin_client: Client, tmp_path: Path, clock: Clock
) -> None:
    job = waiting_job(tmp_path)
    clock.pass_time(2 * 3600)
    response = admin_client.get(job.get_absolute_url(), headers=HTMX)
    fragment = response.content.decode()
    assert f'id="job-{job.id}"' in fragment
    assert "<html" not in fragment
    assert "every 2s" in fragment
    seen = {"seen": response.context["revision"]}
    assert admin_client.get(job.get_absolute_url(), seen, headers=HTMX).status_code == 204
    Job.objects.filter(id=job.id).update(revision=job.revision + 1)
    assert admin_client.get(job.get_absolute_url(), seen, headers=HTMX).status_code == 200


def test_the_time_of_a_step_that_waits_goes_on(
    admin_client: Client, tmp_path: Path, clock: Clock
) -> None:
    job = waiting_job(tmp_path)
    for url in (job.get_absolute_url(), reverse("jobs:jobs")):
        clock.pass_time(3600)
        seen = {"seen": admin_client.get(url, headers=HTMX).context["revision"]}
        clock.pass_time(600)
        fragment = admin_client.get(url, seen, headers=HTMX).content.decode()
        shown = "1 h 10 min" if url == job.get_absolute_url() else "2 h 20 min"
        assert shown in fragment


def test_an_ended_job_does_not_poll(admin_client: Client, tmp_path: Path) -> None:
    job = run_until_done(start_demo(tmp_path))
    page = page_of(admin_client, job)
    assert f"{job.get_absolute_url()}?seen" not in page
    assert f'id="job-{job.id}"' in page


def test_a_failed_job_says_what_happened_and_what_to_do(
    admin_client: Client, tmp_path: Path
) -> None:
    page = page_of(admin_client, failed_job(tmp_path))
    assert "A fault was injected into copy." in page
    assert "TEST-FAULT" in page
    assert "Everything this job did has been undone" in page


def test_a_job_in_trouble_says_what_is_left_and_offers_what_is_possible(
    admin_client: Client, tmp_path: Path
) -> None:
    page = page_of(admin_client, failed_job(tmp_path, "thank"))
    assert "Steps that were not undone" in page
    assert "Retry to continue from the failed step" in page
    assert "“Send the parcel” cannot be undone: it is on its way." in page


def test_a_job_of_an_unknown_plan_says_that_nobody_can_take_it(
    admin_client: Client, tmp_path: Path
) -> None:
    job = start_demo(tmp_path)
    Job.objects.filter(id=job.id).update(plan_version=99)
    assert "No worker can run this job" in page_of(admin_client, job)


def test_cancel_by_htmx_and_without_script(admin_client: Client, tmp_path: Path) -> None:
    job = waiting_job(tmp_path)
    response = admin_client.post(reverse("jobs:job-cancel", args=[job.id]))
    assert (response.status_code, response.headers["Location"]) == (303, job.get_absolute_url())
    assert run_until_done(job).is_cancelled
    assert "Cancelled by admin." in page_of(admin_client, job)
    other = waiting_job(tmp_path)
    response = admin_client.post(reverse("jobs:job-cancel", args=[other.id]), headers=HTMX)
    assert response.headers["HX-Redirect"] == other.get_absolute_url()


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_a_refused_act_says_why(
    admin_client: Client, tmp_path: Path, headers: dict[str, str]
) -> None:
    job = run_until_done(start_demo(tmp_path))
    response = admin_client.post(reverse("jobs:job-cancel", args=[job.id]), headers=headers)
    assert response.status_code == 409
    assert "The job has finished." in response.content.decode()


def test_retry_leads_to_the_new_job(admin_client: Client, tmp_path: Path, admin_user: User) -> None:
    job = failed_job(tmp_path)
    response = admin_client.post(reverse("jobs:job-retry", args=[job.id]))
    again = Job.objects.get(retry_of=job)
    assert response.headers["Location"] == again.get_absolute_url()
    assert again.requested_by == admin_user
    assert again.get_absolute_url() in page_of(admin_client, job)


def test_undo_and_close_act_on_a_job_in_trouble(admin_client: Client, tmp_path: Path) -> None:
    job = failed_job(tmp_path, "send")
    assert job.state == JobState.NEEDS_ATTENTION
    admin_client.post(reverse("jobs:job-undo", args=[job.id]))
    job.refresh_from_db()
    assert job.state == JobState.UNWINDING
    other = failed_job(tmp_path, "thank")
    admin_client.post(reverse("jobs:job-close", args=[other.id]))
    other.refresh_from_db()
    assert other.state == JobState.FAILED


def test_wrong_method_and_unknown_job(admin_client: Client, tmp_path: Path) -> None:
    job = start_demo(tmp_path)
    assert admin_client.get(reverse("jobs:job-cancel", args=[job.id])).status_code == 405
    assert admin_client.post(job.get_absolute_url()).status_code == 405
    assert admin_client.get(reverse("jobs:job", args=[uuid4()])).status_code == 404


@pytest.mark.parametrize("name", ["jobs:job", "jobs:job-cancel", "jobs:job-retry"])
def test_sign_in_is_required(client: Client, tmp_path: Path, name: str) -> None:
    job = start_demo(tmp_path)
    response = client.post(reverse(name, args=[job.id]))
    assert response.status_code == 302
    assert "/account/" in response.headers["Location"]
    job.refresh_from_db()
    assert not job.is_cancel_requested
