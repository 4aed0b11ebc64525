"""Addresses of replication, one list per object."""

from django.urls import path

from replication.views import (
    failbacks,
    failovers,
    machines,
    page,
    pairings,
    seed_drives,
    sources,
    targets,
)

app_name = "replication"
urlpatterns = [
    # Prefix /replication/
    path("", page.replication_page, name="page"),
    # /replication/target-cores/
    path("target-cores/add/", targets.add, name="target-core-add"),
    path("target-cores/confirm/", targets.confirm, name="target-core-confirm"),
    # /replication/source-cores/
    path("source-cores/add/", sources.add, name="source-core-add"),
    path("source-cores/confirm/", sources.confirm, name="source-core-confirm"),
    # /replication/pairings/
    path("pairings/<uuid:pairing_id>/", pairings.details, name="pairing"),
    path("pairings/<uuid:pairing_id>/settings/", pairings.settings, name="pairing-settings"),
    path(
        "pairings/<uuid:pairing_id>/machines/add/",
        pairings.add_machines,
        name="pairing-machines-add",
    ),
    path(
        "pairings/<uuid:pairing_id>/seed-drive/", seed_drives.copy_core, name="pairing-seed-drive"
    ),
    path("pairings/<uuid:pairing_id>/consume/", seed_drives.consume, name="pairing-consume"),
    path("pairings/<uuid:pairing_id>/pause/", pairings.pause, name="pairing-pause"),
    path("pairings/<uuid:pairing_id>/resume/", pairings.resume, name="pairing-resume"),
    path("pairings/<uuid:pairing_id>/force/", pairings.force, name="pairing-force"),
    path(
        "pairings/<uuid:pairing_id>/fail-over/", failovers.fail_over_core, name="pairing-fail-over"
    ),
    path("pairings/<uuid:pairing_id>/failback/", failbacks.failback_core, name="pairing-failback"),
    # /replication/machines/
    path("machines/<uuid:replicated_id>/", machines.details, name="machine"),
    path("machines/<uuid:replicated_id>/pause/", machines.pause, name="machine-pause"),
    path("machines/<uuid:replicated_id>/resume/", machines.resume, name="machine-resume"),
    path("machines/<uuid:replicated_id>/force/", machines.force, name="machine-force"),
    path(
        "machines/<uuid:replicated_id>/fail-over/",
        failovers.fail_over_machine,
        name="machine-fail-over",
    ),
    path(
        "machines/<uuid:replicated_id>/failback/",
        failbacks.failback_machine,
        name="machine-failback",
    ),
    path(
        "machines/<uuid:replicated_id>/seed-drive/",
        seed_drives.copy_machine,
        name="machine-seed-drive",
    ),
    # /replication/seed-drives/
    path(
        "seed-drives/<uuid:seed_drive_id>/abandon/",
        seed_drives.abandon,
        name="seed-drive-abandon",
    ),
    # /replication/protected-machines/
    path(
        "protected-machines/<uuid:machine_id>/replicate/",
        machines.replicate,
        name="protected-machine-replicate",
    ),
    # /replication/failovers/
    path("failovers/<uuid:failover_id>/", failovers.failover_page, name="failover"),
    path(
        "failovers/<uuid:failover_id>/jobs/<uuid:job_id>/cancel/",
        failovers.cancel,
        name="failover-cancel",
    ),
    path(
        "failovers/<uuid:failover_id>/jobs/<uuid:job_id>/retry/",
        failovers.retry,
        name="failover-retry",
    ),
    # /replication/failbacks/
    path("failbacks/<uuid:failback_id>/", failbacks.failback_page, name="failback"),
    path(
        "failbacks/<uuid:failback_id>/machines/<uuid:entry_id>/commit/",
        failbacks.commit,
        name="failback-commit",
    ),
    path(
        "failbacks/<uuid:failback_id>/machines/<uuid:entry_id>/roll-back/",
        failbacks.roll_back,
        name="failback-roll-back",
    ),
    path(
        "failbacks/<uuid:failback_id>/jobs/<uuid:job_id>/cancel/",
        failbacks.cancel,
        name="failback-cancel",
    ),
    path(
        "failbacks/<uuid:failback_id>/jobs/<uuid:job_id>/retry/",
        failbacks.retry,
        name="failback-retry",
    ),
]
