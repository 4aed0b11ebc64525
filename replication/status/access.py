"""How views get what objectives are set for, and the rules of DR status."""

from uuid import UUID

from django.http import Http404

from console.accounts.roles import Permission
from console.identity import this_core
from protected_machines.models import Machine
from replication.models import Pairing

RULES = {
    "status:page": Permission.STATUS,
    "status:csv": Permission.STATUS,
    "status:pdf": Permission.STATUS,
    "status:core-objectives": Permission.CONFIGURE,
    "status:machine-objectives": Permission.CONFIGURE,
}


def get_core_name(core_id: UUID) -> str:
    """Return the name of a source core, or answer 404."""
    if str(core_id) == this_core().id:
        return this_core().name
    pairing = Pairing.objects.incoming().filter(peer_core_id=core_id).first()
    machine = Machine.objects.filter(source_core_id=core_id).first()
    if pairing is None and machine is None:
        raise Http404
    return pairing.peer_name if pairing is not None else "the lost core"
