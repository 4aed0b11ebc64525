"""What each vCenter has of VMs that jobs left behind."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("protected_machines", "0007_points_proven_again")]

    operations = [
        migrations.AddField(
            model_name="vcenter",
            name="stray_vms",
            field=models.JSONField(blank=True, default=list),
        )
    ]
