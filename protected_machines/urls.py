"""Addresses of protected machines."""

from django.urls import path

from protected_machines.views import (
    archives,
    exports,
    imports,
    machines,
    restores,
    snapshots,
    vcenters,
)

app_name = "protected_machines"
urlpatterns = [
    # machines
    path("machines/", machines.machine_list, name="machines"),
    path("machines/protect/", machines.machine_protect, name="machine-protect"),
    path("machines/import-archive/", imports.import_start, name="import-start"),
    path("machines/<uuid:machine_id>/", machines.machine, name="machine"),
    path("machines/<uuid:machine_id>/pause/", machines.machine_pause, name="machine-pause"),
    path("machines/<uuid:machine_id>/resume/", machines.machine_resume, name="machine-resume"),
    path("machines/<uuid:machine_id>/schedule/", machines.schedule, name="machine-schedule"),
    path("machines/<uuid:machine_id>/snapshot/", snapshots.snapshot_force, name="snapshot-force"),
    path("machines/<uuid:machine_id>/export/", exports.export_start, name="export-start"),
    path("machines/<uuid:machine_id>/archive/", archives.archive_start, name="archive-start"),
    path(
        "machines/<uuid:machine_id>/points/<uuid:point_id>/restore/",
        restores.restore_start,
        name="restore-start",
    ),
    # vCenters
    path("vcenters/add/", vcenters.vcenter_add, name="vcenter-add"),
    path("vcenters/<uuid:vcenter_id>/check/", vcenters.vcenter_check, name="vcenter-check"),
    path("vcenters/<uuid:vcenter_id>/password/", vcenters.password, name="vcenter-password"),
    path("vcenters/<uuid:vcenter_id>/remove/", vcenters.vcenter_remove, name="vcenter-remove"),
]
