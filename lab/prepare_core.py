"""`python -m lab.prepare_core`: bring one core's database and administrator up to date.

One process for both, because starting Django is most of the time that each takes.
"""

import argparse
from pathlib import Path

import django
from django.core.management import call_command


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.prepare_core", description=__doc__)
    parser.add_argument("--username", required=True)
    parser.add_argument("--password-file", type=Path, required=True)
    arguments = parser.parse_args()
    django.setup()
    call_command("migrate", verbosity=0, interactive=False)
    call_command("ensure_admin", username=arguments.username, password_file=arguments.password_file)


if __name__ == "__main__":
    main()
