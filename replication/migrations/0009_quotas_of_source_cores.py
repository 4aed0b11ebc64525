"""A quota for each source core; none has one yet."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("replication", "0008_commit_days_are_a_choice")]

    operations = [
        migrations.AddField(
            model_name="pairing",
            name="quota_bytes",
            field=models.PositiveBigIntegerField(blank=True, null=True),
        )
    ]
