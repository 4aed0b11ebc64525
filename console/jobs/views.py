"""Pages of jobs: the list, one job live, and the acts on it."""

from collections.abc import Callable
from uuid import UUID

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_POST, require_safe

from console.accounts.access import User
from console.htmx import is_fragment, redirect_after, refuse, render_page
from console.jobs import acts
from console.jobs.access import acts_for, get_job_for, get_job_for_act, jobs_for
from console.jobs.choices import RUNNABLE, JobState
from console.jobs.errors import JobConflict
from console.jobs.hold import move_of_held
from console.jobs.models import Job, JobQuerySet
from console.jobs.seen import shown_revision

_JOBS_PER_PAGE = 50
# Word in the URL, title, states; the first shows all.
_FILTERS = (
    ("", "All", tuple(JobState)),
    ("open", "Running", RUNNABLE),
    ("held", "Held", (JobState.HELD,)),
    ("attention", "Needs attention", (JobState.NEEDS_ATTENTION,)),
    ("failed", "Failed", (JobState.FAILED,)),
    ("done", "Done", (JobState.SUCCEEDED,)),
)


@require_safe
def job_list(request: HttpRequest) -> HttpResponse:
    """List jobs, newest first, filtered by state and by machine."""
    shown = request.GET.get("state", "")
    machine = request.GET.get("machine", "").strip()
    jobs = _filtered(jobs_for(request.user), shown, machine)
    page = Paginator(jobs, _JOBS_PER_PAGE).get_page(request.GET.get("page"))
    revision = shown_revision(page)
    if is_fragment(request) and request.GET.get("seen") == revision:
        return HttpResponse(status=204)
    query = request.GET.copy()
    query.pop("seen", None)
    query["page"] = str(page.number)
    context = {
        "page": page,
        "filters": [(word, title) for word, title, _ in _FILTERS],
        "shown": shown,
        "machine": machine,
        "query": query.urlencode(),
        "revision": revision,
        "is_live": any(job.is_open for job in page),
    }
    return render_page(request, "jobs/jobs.html", context, fragment="table")


@require_safe
def job_page(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """Show a job's steps; the live part is updated while the job is open."""
    job = get_job_for(request.user, job_id)
    revision = shown_revision([job])
    if is_fragment(request) and request.GET.get("seen") == revision:
        return HttpResponse(status=204)
    context = {
        "job": job,
        "revision": revision,
        "acts": acts_for(request.user, job),
        "held_move": lambda: move_of_held(job),
        "retries": lambda: list(job.retries.order_by("created_at")),
        "events": lambda: list(job.events.order_by("number")),
    }
    return render_page(request, "jobs/job.html", context, fragment="live")


@require_POST
def cancel(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """Cancel a job and undo what it did."""
    return _act(request, job_id, "cancel", acts.cancel_job, "{job.title} is being cancelled.")


@require_POST
def retry(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """Start a failed job again, or continue one that needs attention."""
    return _act(request, job_id, "retry", acts.retry_job, "{job.title} is being retried.")


@require_POST
def undo(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """Undo a job that needs attention."""
    return _act(request, job_id, "undo", acts.undo_job, "{job.title} is being undone.")


@require_POST
def release(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """Let a held job continue."""
    return _act(request, job_id, "release", acts.release_job, "{job.title} continues.")


@require_POST
def close(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """Close a job that needs attention or is held, without undoing anything."""
    return _act(request, job_id, "close", acts.close_job, "{job.title} closed.")


def _act(
    request: HttpRequest,
    job_id: UUID,
    name: str,
    act: Callable[[Job, User], Job | None],
    toast: str,
) -> HttpResponse:
    job = get_job_for_act(request.user, job_id, name)
    try:
        result = act(job, request.user) or job
    except JobConflict as conflict:
        return refuse(request, conflict.text)
    return redirect_after(request, result.get_absolute_url(), toast=toast.format(job=job))


def _filtered(jobs: JobQuerySet, shown: str, machine: str) -> JobQuerySet:
    for word, _, states in _FILTERS[1:]:
        if word == shown:
            jobs = jobs.filter(state__in=states)
    if machine:
        jobs = jobs.filter(subject_name__icontains=machine)
    return jobs.order_by("-created_at", "id")
