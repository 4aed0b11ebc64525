"""One-time codes by which another core pairs with this one."""

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("replication", "0010_clocks_of_cores")]

    operations = [
        migrations.CreateModel(
            name="PairingCode",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("sealed_key", models.TextField()),
                ("made_by", models.CharField(blank=True, default="", max_length=150)),
                (
                    "made_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False),
                ),
                ("expires_at", models.DateTimeField()),
                ("wrong_tries", models.PositiveSmallIntegerField(default=0)),
                ("used_by", models.CharField(blank=True, default="", max_length=150)),
                ("used_by_name", models.CharField(blank=True, default="", max_length=200)),
                ("used_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={"ordering": ["-id"]},
        )
    ]
