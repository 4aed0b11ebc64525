"""Where machines reach a peer, if that is not where this core does; told with each status."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('replication', '0012_fellow_targets'),
    ]

    operations = [
        migrations.AddField(
            model_name='pairing',
            name='peer_host_for_machines',
            field=models.CharField(blank=True, default='', max_length=253),
        ),
    ]
