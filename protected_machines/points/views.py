"""Force Snapshot."""

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_http_methods

from console.dialogs import render_dialog
from console.htmx import redirect_after, refuse
from console.jobs.acts import start_job
from console.jobs.errors import JobConflict
from protected_machines.access import get_machine_for
from protected_machines.ownership import act_refusal
from protected_machines.points.forms import SnapshotForm
from protected_machines.points.workflow import SnapshotParams


@require_http_methods(["GET", "HEAD", "POST"])
def snapshot_force(request: HttpRequest, machine_id: UUID) -> HttpResponse:
    """Choose between an incremental and a base image, and start the snapshot."""
    machine = get_machine_for(request.user, machine_id)
    refusal = act_refusal(machine)
    if request.method == "POST" and refusal:
        return refuse(request, refusal)
    form = SnapshotForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            start_job(
                "snapshot",
                machine.pk,
                machine.name,
                SnapshotParams(kind=form.cleaned_data["kind"]),
                requested_by=request.user,
                request_id=form.cleaned_data["request_id"],
            )
        except JobConflict as conflict:
            return refuse(request, conflict.text)
        return redirect_after(
            request, machine.get_absolute_url(), f"The snapshot of {machine.name} has started."
        )
    newest_base = machine.points.filter(kind="base_image").newest_first().first()
    newest = machine.points.newest_first().first()
    return render_dialog(
        request,
        "protected_machines/_force_snapshot.html",
        "Force Snapshot",
        {
            "form": form,
            "machine": machine,
            "refusal": refusal,
            "newest": newest,
            "newest_base": newest_base,
            "capacity_bytes": sum(disk.capacity_bytes for disk in machine.disks),
        },
        422 if request.method == "POST" else 200,
    )
