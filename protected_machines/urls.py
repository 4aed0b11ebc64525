"""Addresses of protected machines."""

from django.urls import path

from protected_machines import machine_views, owner_views
from protected_machines.archives import import_views, views
from protected_machines.exports import vcenter_views, whereabouts_views
from protected_machines.exports import views as exports_views
from protected_machines.points import views as points_views
from protected_machines.restores import medium_views
from protected_machines.restores import views as restores_views

app_name = "protected_machines"
urlpatterns = [
    # machines
    path("machines/", machine_views.machine_list, name="machines"),
    path("machines/protect/", machine_views.machine_protect, name="machine-protect"),
    path("machines/import-archive/", import_views.import_start, name="import-start"),
    path("machines/<uuid:machine_id>/", machine_views.machine, name="machine"),
    path("machines/<uuid:machine_id>/pause/", machine_views.machine_pause, name="machine-pause"),
    path("machines/<uuid:machine_id>/resume/", machine_views.machine_resume, name="machine-resume"),
    path("machines/<uuid:machine_id>/find/", machine_views.machine_find, name="machine-find"),
    path("machines/<uuid:machine_id>/settle-owner/", owner_views.owner_settle, name="owner-settle"),
    path("machines/<uuid:machine_id>/schedule/", machine_views.schedule, name="machine-schedule"),
    path(
        "machines/<uuid:machine_id>/snapshot/", points_views.snapshot_force, name="snapshot-force"
    ),
    path("machines/<uuid:machine_id>/export/", exports_views.export_start, name="export-start"),
    path("machines/<uuid:machine_id>/archive/", views.archive_start, name="archive-start"),
    path(
        "machines/<uuid:machine_id>/points/<uuid:point_id>/restore/",
        restores_views.restore_start,
        name="restore-start",
    ),
    # the machine that a job looks for
    path("jobs/<uuid:job_id>/address/", whereabouts_views.job_address, name="job-address"),
    path("jobs/<uuid:job_id>/screen/", whereabouts_views.job_screen, name="job-screen"),
    path("jobs/<uuid:job_id>/screen.png", whereabouts_views.job_screenshot, name="job-screenshot"),
    # the rescue medium
    path("rescue-medium/", medium_views.medium_download, name="rescue-medium"),
    # vCenters
    path("vcenters/add/", vcenter_views.vcenter_add, name="vcenter-add"),
    path("vcenters/<uuid:vcenter_id>/check/", vcenter_views.vcenter_check, name="vcenter-check"),
    path("vcenters/<uuid:vcenter_id>/password/", vcenter_views.password, name="vcenter-password"),
    path("vcenters/<uuid:vcenter_id>/remove/", vcenter_views.vcenter_remove, name="vcenter-remove"),
]
