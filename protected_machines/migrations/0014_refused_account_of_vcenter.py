from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("protected_machines", "0013_announcements"),
    ]

    operations = [
        migrations.AddField(
            model_name="vcenter",
            name="refused_text",
            field=models.TextField(blank=True),
        ),
    ]
