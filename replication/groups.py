"""What the pages of failovers and failbacks share: live progress, and acts on single jobs."""

import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from django.http import Http404, HttpRequest, HttpResponse

from console.htmx import is_fragment, redirect_after, refuse, render_page, with_event
from console.jobs.acts import User
from console.jobs.errors import JobConflict
from console.jobs.models import Job


class GroupProgress(Protocol):
    """The progress of all machines of one failover or failback."""

    @property
    def revision(self) -> str:
        """A text that changes whenever one of its jobs looks different."""

    @property
    def is_open(self) -> bool:
        """Whether one of its jobs is still open."""


def sent_request_id(request: HttpRequest) -> uuid.UUID | None:
    """Return the ID by which a repeated POST is recognised."""
    try:
        return uuid.UUID(request.POST.get("request_id", ""))
    except ValueError:
        return None


def show_live(
    request: HttpRequest, template: str, progress: GroupProgress, context: Mapping[str, Any]
) -> HttpResponse:
    """Show every machine's steps; updated while a job is open, with 204 if nothing has changed."""
    if is_fragment(request) and request.GET.get("seen") == progress.revision:
        return HttpResponse(status=204)
    response = render_page(request, template, {**context, "progress": progress}, fragment="live")
    if is_fragment(request) and not progress.is_open:
        # The last poll: header and navigation learn right away that it has ended.
        return with_event(response, "jobs-changed")
    return response


def act_on_job(
    request: HttpRequest,
    group_id: uuid.UUID,
    job_id: uuid.UUID,
    act: Callable[[Job, User], object],
    what: str,
    back_url: str,
) -> HttpResponse:
    """Cancel or retry one machine's job and return to the page; the toast ends with `what`."""
    job = Job.objects.in_group(group_id).filter(pk=job_id).first()
    if job is None:
        raise Http404
    try:
        act(job, request.user)
    except JobConflict as conflict:
        return refuse(request, conflict.text)
    return redirect_after(request, back_url, toast=f"{job.title} of {job.subject_name} {what}.")
