"""The database refuses to change or delete an entry.

A migration that has SQLite rebuild the table loses the triggers there, and has to make them again.
"""

from django.db import migrations

_SQLITE = [
    f"""
    CREATE TRIGGER audit_no_{act} BEFORE {act} ON audit_entry
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END
    """
    for act in ("update", "delete")
]
_POSTGRESQL = [
    """
    CREATE FUNCTION audit_append_only() RETURNS trigger AS $$
    BEGIN RAISE EXCEPTION 'the audit log is append-only'; END
    $$ LANGUAGE plpgsql
    """,
    """
    CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit_entry
    FOR EACH ROW EXECUTE FUNCTION audit_append_only()
    """,
]


def make_triggers(apps, schema_editor):
    statements = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}
    for statement in statements[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


def drop_triggers(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute("DROP TRIGGER audit_no_update")
        schema_editor.execute("DROP TRIGGER audit_no_delete")
    else:
        schema_editor.execute("DROP FUNCTION audit_append_only() CASCADE")


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_entries")]
    operations = [migrations.RunPython(make_triggers, drop_triggers)]
