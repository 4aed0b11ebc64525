"""Settle by hand which folder is this core's store: the one that is there now."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from console.audit.commands import AuditedCommand
from protected_machines.own_store import adopt_store, store_path
from recovery_store.errors import StoreError
from recovery_store.inventory import Inventory


class Command(AuditedCommand):
    help = (
        "Make the folder that is there now this core's store. Use it after the disk with the "
        "recovery points was replaced. Points that are not in the folder are listed as damaged."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--empty",
            action="store_true",
            help="needed if the folder holds no recovery points: the disk is really lost, and not "
            "just missing",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            machines = Inventory(store_path()).machine_ids()
            if not machines and not options["empty"]:
                raise CommandError(
                    f"{store_path()} holds no recovery points. Mount the disk with them, or add "
                    "--empty to begin a new store there."
                )
            adopt_store()
        except StoreError as error:
            raise CommandError(f"{error} [{error.code}]") from error
        self.stdout.write(f"{store_path()} is this core's store, with {len(machines)} machines")
