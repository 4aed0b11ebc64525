"""Add new plans to the list of shipped plans, which a test checks."""

import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from console.jobs.workflow import registered_workflows

SHIPPED_PLANS = Path(settings.BASE_DIR) / "tests/console/jobs/shipped_plans.json"


class Command(BaseCommand):
    help = "Record new workflows, and new versions of old ones, as shipped."

    def handle(self, *args: Any, **options: Any) -> None:
        known = json.loads(SHIPPED_PLANS.read_text()) if SHIPPED_PLANS.exists() else {}
        for workflow in registered_workflows():
            name = f"{workflow.kind}@{workflow.version}"
            if known.setdefault(name, workflow.outline) != workflow.outline:
                raise CommandError(f"{name} was shipped with other steps. Use a new version.")
        SHIPPED_PLANS.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
        self.stdout.write(f"{len(known)} plans recorded.")
