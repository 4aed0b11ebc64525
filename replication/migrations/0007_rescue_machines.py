from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('replication', '0006_drop_arriving_points'),
    ]

    operations = [
        migrations.RenameField('failbackmachine', 'target_id', 'rescue_id'),
        migrations.RenameField('failbackmachine', 'target_host', 'rescue_host'),
        migrations.RenameField('failbackmachine', 'target_port', 'rescue_port'),
    ]
