from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('replication', '0004_seed_drives'),
    ]

    operations = [
        migrations.AlterField(
            model_name='pairing',
            name='connection_state',
            field=models.CharField(choices=[('online', 'Online'), ('unreachable', 'Unreachable'), ('authentication_error', 'Authentication error'), ('unknown', 'Unknown')], default='unknown', max_length=24),
        ),
    ]
