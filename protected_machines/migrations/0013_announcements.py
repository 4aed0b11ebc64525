"""Where machines said that they are when they started; a few rows for each."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('protected_machines', '0012_disputed_owners'),
    ]

    operations = [
        migrations.CreateModel(
            name='Announcement',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('boot_id', models.CharField(max_length=200)),
                ('addresses', models.JSONField(default=list)),
                ('port', models.PositiveIntegerField()),
                ('first_heard_at', models.DateTimeField()),
                ('heard_at', models.DateTimeField()),
                ('machine', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='announcements', to='protected_machines.machine')),
            ],
            options={
                'ordering': ['-id'],
                'constraints': [models.UniqueConstraint(fields=('machine', 'boot_id'), name='announcement_once_a_boot')],
            },
        ),
    ]
