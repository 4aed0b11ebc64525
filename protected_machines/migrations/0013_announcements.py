"""Where machines said that they are when they started, and where people said that a job finds them."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0002_held_jobs_generation'),
        ('protected_machines', '0012_disputed_owners'),
    ]

    operations = [
        migrations.CreateModel(
            name='TypedAddress',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('host', models.CharField(max_length=253)),
                ('port', models.PositiveIntegerField()),
                ('typed_by', models.CharField(max_length=150)),
                ('typed_at', models.DateTimeField()),
                ('job', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='jobs.job')),
            ],
        ),
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
