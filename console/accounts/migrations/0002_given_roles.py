import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0001_wrong_attempts_known_addresses'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='GivenRole',
            fields=[
                ('user', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='given_role', serialize=False, to=settings.AUTH_USER_MODEL)),
                ('role', models.CharField(choices=[('helpdesk', 'Helpdesk'), ('test_operator', 'Test operator'), ('recovery_administrator', 'Recovery administrator'), ('administrator', 'Administrator'), ('manager', 'Manager'), ('auditor', 'Auditor')], max_length=32)),
            ],
        ),
    ]
