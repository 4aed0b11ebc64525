from django.db import migrations


def make_administrators(apps, schema_editor):
    """Leave everyone what they could do before there were roles."""
    users = apps.get_model("auth", "User").objects
    users.update(is_superuser=True, is_staff=True)


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0002_given_roles'),
        ('auth', '0012_alter_user_first_name_max_length'),
    ]

    operations = [migrations.RunPython(make_administrators, migrations.RunPython.noop)]
