"""The screen of a job's VM, and the address that a person types for its machine."""

from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from console.htmx import redirect_after, refuse
from console.jobs.access import get_job_for, get_job_for_act
from protected_machines.errors import ProtectedMachinesError
from protected_machines.exports.whereabouts import (
    AddressForm,
    keep_address,
    searching_step,
    take_screenshot,
)
from vsphere.errors import VSphereError

_STOP_POLLING = 286  # htmx's own


@require_POST
def job_address(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """Have a job look for its machine at an address; its agent still has to answer there."""
    job = get_job_for_act(request.user, job_id, "retry")
    form = AddressForm(request.POST)
    if not form.is_valid():
        return refuse(request, " ".join(str(text) for [text, *_] in form.errors.values()))
    if searching_step(job) is None:
        return refuse(request, "This job does not look for its machine now.")
    host, port = form.cleaned_data["host"], form.cleaned_data["port"]
    keep_address(job, host, port, request.user.get_username())
    return redirect_after(
        request, job.get_absolute_url(), toast=f"{job.subject_name} is looked for at {host}, too."
    )


@require_safe
def job_screen(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """Return the picture of a job's screen with a new address, while the job looks for its VM."""
    job = get_job_for(request.user, job_id)
    if searching_step(job) is None:
        return HttpResponse(status=_STOP_POLLING)
    context = {"job": job, "now": timezone.now()}
    return render(request, "protected_machines/_job_screen.html", context)


@require_safe
def job_screenshot(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """Send the screen as it is now."""
    job = get_job_for(request.user, job_id)
    try:
        picture = take_screenshot(job) if searching_step(job) is not None else None
    except (VSphereError, ProtectedMachinesError) as error:
        return HttpResponse(str(error), status=502, content_type="text/plain; charset=utf-8")
    if picture is None:
        raise Http404("There is no VM to show.")
    return HttpResponse(picture, content_type="image/png", headers={"Cache-Control": "no-store"})
