"""Keep on each failed-over machine the marker that its failover gave the VM."""

from django.db import migrations


def keep_markers(apps, schema_editor):
    machines = apps.get_model("protected_machines", "Machine")
    steps = apps.get_model("jobs", "JobStep")
    for machine in machines.objects.exclude(vm_moid="").filter(vm_marker=""):
        named = steps.objects.filter(
            name="reserve_names",
            job__kind="failover",
            job__subject_id=machine.pk,
            job__state="succeeded",
        ).order_by("-job__created_at").first()
        if named is not None:
            machine.vm_marker = named.output.get("marker", "")
            machine.save(update_fields=["vm_marker"])


class Migration(migrations.Migration):

    dependencies = [
        ("protected_machines", "0003_machine_vm_marker"),
        ("jobs", "0001_jobs_steps_events"),
    ]

    operations = [migrations.RunPython(keep_markers, migrations.RunPython.noop)]
