"""`python -m lab.prepare_core`: bring one core's database and administrator up to date.

One process does both, because starting Django takes most of the time.
"""

import argparse
from pathlib import Path

import django
from django.core.management import call_command
from django.db import connection


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.prepare_core", description=__doc__)
    parser.add_argument("--username", required=True)
    parser.add_argument("--password-file", type=Path, required=True)
    parser.add_argument(
        "--empty", action="store_true", help="first drop all tables of a database on a server"
    )
    arguments = parser.parse_args()
    django.setup()
    if arguments.empty and connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("DROP SCHEMA public CASCADE")
            cursor.execute("CREATE SCHEMA public")
    call_command("migrate", verbosity=0, interactive=False)
    call_command("ensure_admin", username=arguments.username, password_file=arguments.password_file)


if __name__ == "__main__":
    main()
