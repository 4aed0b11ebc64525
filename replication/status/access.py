"""Who may see DR status, and who may set objectives."""

from uuid import UUID

from django.http import Http404

from console.accounts.access import User, check_can_change
from console.identity import this_core
from protected_machines.access import get_machine_for_change
from protected_machines.models import Machine
from replication.models import Pairing


def get_machine_to_set(user: User, machine_id: UUID) -> Machine:
    """Return a machine whose objectives are set: 404, or 403 for users who may only read."""
    return get_machine_for_change(user, machine_id)


def get_core_name_to_set(user: User, core_id: UUID) -> str:
    """Return the name of a source core whose objectives are set; 404 if there is no such core."""
    check_can_change(user)
    if str(core_id) == this_core().id:
        return this_core().name
    pairing = Pairing.objects.incoming().filter(peer_core_id=core_id).first()
    machine = Machine.objects.filter(source_core_id=core_id).first()
    if pairing is None and machine is None:
        raise Http404
    return pairing.peer_name if pairing is not None else "the lost core"
