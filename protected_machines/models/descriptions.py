"""Read a machine's description that is kept in a row or a manifest."""

import logging

from agent.client.description import MachineDescription
from agent.errors import ProtocolBroken

logger = logging.getLogger(__name__)


def read_description(value: object) -> MachineDescription:
    """Return the description; a field or an entry that is wrong is left out, and logged.

    What an agent sends is checked as it arrives. A manifest may come from elsewhere, and one wrong
    field must not keep a machine from being shown, exported or failed over.
    """
    try:
        return MachineDescription.from_json(value)
    except ProtocolBroken as error:
        logger.warning("description partly unreadable error=%s", error)
    if not isinstance(value, dict):
        return MachineDescription()
    readable: dict[str, object] = {}
    for name, field in value.items():
        if isinstance(field, list):
            field = [entry for entry in field if _is_readable({name: [entry]})]
        if _is_readable({name: field}):
            readable[name] = field
    return MachineDescription.from_json(readable)


def _is_readable(value: object) -> bool:
    try:
        MachineDescription.from_json(value)
    except ProtocolBroken:
        return False
    return True
