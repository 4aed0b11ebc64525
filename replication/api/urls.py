"""Addresses of the core interface, all under /api/v1/."""

from django.http import HttpRequest, JsonResponse
from django.urls import path

from replication.api import failback_views, views


def not_found(request: HttpRequest, exception: Exception) -> JsonResponse:
    """Answer an unknown address in JSON, like everything else here."""
    return JsonResponse(
        {"code": "REPLICATION-PEER-FAULTY", "text": f"There is no {request.path} here."}, status=404
    )


handler404 = not_found

_MACHINE = "api/v1/machines/<uuid:machine_id>"
_REPLICA = "api/v1/machines/<uuid:machine_id>/replicas"
urlpatterns = [
    path("api/v1/pair", views.pair),
    # From the agents of protected machines
    path("api/v1/announcements", views.announce),
    path("api/v1/status", views.peer_status),
    path("api/v1/force", views.force),
    path("api/v1/fellow/ownership", views.fellow_ownership),
    path("api/v1/machines/<uuid:machine_id>", views.machine),
    path("api/v1/machines/<uuid:machine_id>/ownership", views.ownership),
    path("api/v1/machines/<uuid:machine_id>/missing-points", views.missing_points),
    path(_REPLICA, views.replicas),
    path(f"{_REPLICA}/<uuid:point_id>/files/<str:file_name>", views.replica_file),
    path(f"{_REPLICA}/<uuid:point_id>/commit", views.replica_commit),
    # From the owner of a machine to its source core, during a failback
    path("api/v1/restore-targets", failback_views.survey_rescue_machine),
    path(f"{_MACHINE}/points", failback_views.points),
    path(f"{_MACHINE}/restores", failback_views.restores),
    path(f"{_MACHINE}/restart", failback_views.restart),
    path(f"{_MACHINE}/ask", failback_views.ask),
    path(f"{_MACHINE}/take-over", failback_views.take_over),
    path(f"{_MACHINE}/snapshots", failback_views.snapshots),
    path(f"{_MACHINE}/jobs/<uuid:job_id>", failback_views.job),
    path(f"{_MACHINE}/jobs/<uuid:job_id>/cancel", failback_views.job_cancel),
]
