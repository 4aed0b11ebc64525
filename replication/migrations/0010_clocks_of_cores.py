"""How far each core's clock is off; measured with the next exchange of status."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("replication", "0009_quotas_of_source_cores")]

    operations = [
        migrations.AddField(
            model_name="pairing",
            name="clock_ahead_seconds",
            field=models.BigIntegerField(blank=True, null=True),
        )
    ]
