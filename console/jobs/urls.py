"""Addresses of jobs."""

from django.urls import path

from console.jobs import views

app_name = "jobs"
urlpatterns = [
    # Prefix /jobs/
    path("", views.job_list, name="jobs"),
    path("<uuid:job_id>/", views.job_page, name="job"),
    path("<uuid:job_id>/cancel/", views.cancel, name="job-cancel"),
    path("<uuid:job_id>/retry/", views.retry, name="job-retry"),
    path("<uuid:job_id>/undo/", views.undo, name="job-undo"),
    path("<uuid:job_id>/release/", views.release, name="job-release"),
    path("<uuid:job_id>/close/", views.close, name="job-close"),
]
