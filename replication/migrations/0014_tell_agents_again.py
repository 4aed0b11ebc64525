"""Have each agent told once more of its target cores: since now it is also told where they are."""

from django.db import migrations


def forget_told(apps, schema_editor):
    apps.get_model("replication", "ReplicatedMachine").objects.update(trusted_at=None)


class Migration(migrations.Migration):

    dependencies = [("replication", "0013_host_for_machines")]

    operations = [migrations.RunPython(forget_told, migrations.RunPython.noop)]
