"""The workflows of protected machines; importing this module registers them."""

import protected_machines.archives.import_workflow
import protected_machines.archives.workflow
import protected_machines.exports.workflow
import protected_machines.points.workflow
import protected_machines.restores.workflow  # noqa: F401
