"""Addresses of replication, grouped by object."""

from django.urls import path

from replication.failback import views
from replication.failover import views as failover_views
from replication.pages import machine_views, page_views, pairing_code_views, pairing_views
from replication.peers import source_views, target_views
from replication.seed_drives import views as seed_drives_views

app_name = "replication"
urlpatterns = [
    # Prefix /replication/
    path("", page_views.replication_page, name="page"),
    # /replication/target-cores/
    path("target-cores/add/", target_views.add, name="target-core-add"),
    # /replication/source-cores/
    path("source-cores/add/", source_views.add, name="source-core-add"),
    # /replication/pairing-codes/
    path("pairing-codes/make/", pairing_code_views.make, name="pairing-code-make"),
    # /replication/pairings/
    path("pairings/<uuid:pairing_id>/", pairing_views.details, name="pairing"),
    path("pairings/<uuid:pairing_id>/settings/", pairing_views.settings, name="pairing-settings"),
    path(
        "pairings/<uuid:pairing_id>/machines/add/",
        pairing_views.add_machines,
        name="pairing-machines-add",
    ),
    path(
        "pairings/<uuid:pairing_id>/seed-drive/",
        seed_drives_views.copy_core,
        name="pairing-seed-drive",
    ),
    path("pairings/<uuid:pairing_id>/consume/", seed_drives_views.consume, name="pairing-consume"),
    path("pairings/<uuid:pairing_id>/pause/", pairing_views.pause, name="pairing-pause"),
    path("pairings/<uuid:pairing_id>/resume/", pairing_views.resume, name="pairing-resume"),
    path("pairings/<uuid:pairing_id>/force/", pairing_views.force, name="pairing-force"),
    path(
        "pairings/<uuid:pairing_id>/fail-over/",
        failover_views.fail_over_core,
        name="pairing-fail-over",
    ),
    path("pairings/<uuid:pairing_id>/failback/", views.failback_core, name="pairing-failback"),
    # /replication/machines/
    path("machines/<uuid:replicated_id>/", machine_views.details, name="machine"),
    path("machines/<uuid:replicated_id>/pause/", machine_views.pause, name="machine-pause"),
    path("machines/<uuid:replicated_id>/resume/", machine_views.resume, name="machine-resume"),
    path("machines/<uuid:replicated_id>/force/", machine_views.force, name="machine-force"),
    path(
        "machines/<uuid:replicated_id>/fail-over/",
        failover_views.fail_over_machine,
        name="machine-fail-over",
    ),
    path(
        "machines/<uuid:replicated_id>/failback/",
        views.failback_machine,
        name="machine-failback",
    ),
    path(
        "machines/<uuid:replicated_id>/seed-drive/",
        seed_drives_views.copy_machine,
        name="machine-seed-drive",
    ),
    # /replication/seed-drives/
    path(
        "seed-drives/<uuid:seed_drive_id>/abandon/",
        seed_drives_views.abandon,
        name="seed-drive-abandon",
    ),
    # /replication/protected-machines/
    path(
        "protected-machines/<uuid:machine_id>/replicate/",
        machine_views.replicate,
        name="protected-machine-replicate",
    ),
    # /replication/failovers/
    path("failovers/<uuid:failover_id>/", failover_views.failover_page, name="failover"),
    path(
        "failovers/<uuid:failover_id>/jobs/<uuid:job_id>/cancel/",
        failover_views.cancel,
        name="failover-cancel",
    ),
    path(
        "failovers/<uuid:failover_id>/jobs/<uuid:job_id>/retry/",
        failover_views.retry,
        name="failover-retry",
    ),
    # /replication/failbacks/
    path("failbacks/<uuid:failback_id>/", views.failback_page, name="failback"),
    path(
        "failbacks/<uuid:failback_id>/machines/<uuid:entry_id>/commit/",
        views.commit,
        name="failback-commit",
    ),
    path(
        "failbacks/<uuid:failback_id>/machines/<uuid:entry_id>/roll-back/",
        views.roll_back,
        name="failback-roll-back",
    ),
    path(
        "failbacks/<uuid:failback_id>/jobs/<uuid:job_id>/cancel/",
        views.cancel,
        name="failback-cancel",
    ),
    path(
        "failbacks/<uuid:failback_id>/jobs/<uuid:job_id>/retry/",
        views.retry,
        name="failback-retry",
    ),
]
