"""Have every point proven again: until now, a proof did not inflate any grain."""

from django.db import migrations


def forget_proofs(apps, schema_editor):
    RecoveryPoint = apps.get_model("protected_machines", "RecoveryPoint")
    RecoveryPoint.objects.filter(state="proven").update(state="unproven")
    RecoveryPoint.objects.filter(proven_at__isnull=False).update(proven_at=None)


class Migration(migrations.Migration):
    dependencies = [("protected_machines", "0006_delegations")]

    operations = [migrations.RunPython(forget_proofs, migrations.RunPython.noop)]
