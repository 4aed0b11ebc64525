"""Addresses of DR status."""

from django.urls import path

from replication.status import views

app_name = "status"
urlpatterns = [
    # Prefix /status/
    path("", views.status_page, name="page"),
    path("status.csv", views.status_csv, name="csv"),
    path("status.pdf", views.status_pdf, name="pdf"),
    path("cores/<uuid:core_id>/objectives/", views.core_objectives, name="core-objectives"),
    path(
        "machines/<uuid:machine_id>/objectives/",
        views.machine_objectives,
        name="machine-objectives",
    ),
]
