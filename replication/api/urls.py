"""Addresses of the core interface, all under /api/v1/."""

from django.http import HttpRequest, JsonResponse
from django.urls import path

from replication.api import views


def not_found(request: HttpRequest, exception: Exception) -> JsonResponse:
    """Answer an unknown address in JSON as everything else here."""
    return JsonResponse(
        {"code": "REPLICATION-PEER-FAULTY", "text": f"There is no {request.path} here."}, status=404
    )


handler404 = not_found

_REPLICA = "api/v1/machines/<uuid:machine_id>/replicas"
urlpatterns = [
    path("api/v1/pair", views.pair),
    path("api/v1/status", views.peer_status),
    path("api/v1/force", views.force),
    path("api/v1/machines/<uuid:machine_id>", views.machine),
    path("api/v1/machines/<uuid:machine_id>/ownership", views.ownership),
    path("api/v1/machines/<uuid:machine_id>/missing-points", views.missing_points),
    path(_REPLICA, views.replicas),
    path(f"{_REPLICA}/<uuid:point_id>/files/<str:file_name>", views.replica_file),
    path(f"{_REPLICA}/<uuid:point_id>/commit", views.replica_commit),
]
