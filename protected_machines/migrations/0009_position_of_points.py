"""Add a point's place among those of its machine, which the next migration fills."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("protected_machines", "0008_stray_vms")]

    operations = [
        migrations.AlterModelOptions(
            name="recoverypoint", options={"ordering": ["-position", "-taken_at", "-id"]}
        ),
        migrations.RemoveIndex(model_name="recoverypoint", name="point_machine_taken_at"),
        migrations.RemoveIndex(model_name="recoverypoint", name="point_unproven_taken_at"),
        migrations.AddField(
            model_name="recoverypoint",
            name="position",
            field=models.PositiveBigIntegerField(default=0, editable=False),
        ),
        migrations.AddIndex(
            model_name="recoverypoint",
            index=models.Index(
                fields=["machine", "-position", "-taken_at", "-id"], name="point_machine_position"
            ),
        ),
        migrations.AddIndex(
            model_name="recoverypoint",
            index=models.Index(
                fields=["machine", "-position"],
                condition=models.Q(state="unproven"),
                name="point_unproven_position",
            ),
        ),
    ]
