"""Give every point its place among those of its machine: by the chain, not by its time."""

from django.db import migrations

from recovery_store.order import Link, in_order


def arrange_points(apps, schema_editor):
    RecoveryPoint = apps.get_model("protected_machines", "RecoveryPoint")
    Machine = apps.get_model("protected_machines", "Machine")
    for machine_id in Machine.objects.values_list("pk", flat=True).iterator():
        points = {point.pk: point for point in RecoveryPoint.objects.filter(machine=machine_id)}
        links = [
            Link(point.pk, point.parent_id, point.ownership_epoch, point.taken_at)
            for point in points.values()
        ]
        for position, point_id in enumerate(in_order(links), start=1):
            points[point_id].position = position
        RecoveryPoint.objects.bulk_update(points.values(), ["position"], batch_size=500)


class Migration(migrations.Migration):
    dependencies = [("protected_machines", "0009_position_of_points")]

    operations = [migrations.RunPython(arrange_points, migrations.RunPython.noop)]
