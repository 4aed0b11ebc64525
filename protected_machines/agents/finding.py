"""Find a machine's agent when nobody knows where the machine is.

Each place where it may be is asked at once. The agent has to show its pinned certificate, and it
has to run on the right computer: the machine may still run elsewhere, with the same certificate.
"""

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import UUID

from agent.client import AgentClient, MachineDescription
from agent.errors import (
    AgentCertificateChanged,
    AgentError,
    AgentGone,
    AgentRefusedCore,
    AgentUnreachable,
)
from agent.reasons import reason_of
from console.jobs.workflow import Waiting
from protected_machines.agents import connection
from protected_machines.agents.connection import PING_TIMEOUT_SECONDS, AnsweringAgent
from protected_machines.choices import ConnectionState
from protected_machines.models import Announcement, Machine, TypedAddress

MAX_PLACES = 16
# Starts of a machine that are looked at: it, a copy of it, and the start before each.
_BOOTS = 4


@dataclass(frozen=True)
class Place:
    """Where a machine may answer.

    is_certain: nothing else than this machine can be there, as vSphere or a rescue machine shows;
        otherwise the agent also has to run on the expected computer.
    is_typed: a person said so, and has seen to it that it is not another computer.
    """

    host: str
    port: int
    told_by: str
    is_certain: bool = False
    is_typed: bool = False

    def __str__(self) -> str:
        address = f"[{self.host}]" if ":" in self.host else self.host
        return f"{address}:{self.port} ({self.told_by})"


@dataclass(frozen=True)
class Search:
    """What a job knows of the machine that it has started somewhere.

    job_id: of the job at whose page a person may type where the machine is.
    after_id: `newest_announcement_id` at an earlier time; what was said before does not count.
    """

    machine_id: UUID
    job_id: UUID | None = None
    after_id: int = 0

    def places(self) -> list[Place]:
        """Return where the machine may be: as typed by hand, then its newest starts.

        The way to an announced address may lead through the port that this core used so far.
        """
        usual_port = Machine.objects.values_list("port", flat=True).get(pk=self.machine_id)
        found = typed_places(self.job_id) if self.job_id else []
        starts = Announcement.objects.filter(machine_id=self.machine_id, pk__gt=self.after_id)
        found += [
            Place(address, port, "announced by its agent")
            for start in starts[:_BOOTS]
            for address in start.addresses
            for port in dict.fromkeys((start.port, usual_port))
        ]
        return found


def find_typed(job_id: UUID) -> TypedAddress | None:
    """Return where a person said, at the page of a job, that its machine is."""
    return TypedAddress.objects.filter(job=job_id).first()


def typed_places(job_id: UUID) -> list[Place]:
    """Return that as a place to ask."""
    typed = find_typed(job_id)
    if typed is None:
        return []
    return [Place(typed.host, typed.port, f"typed by {typed.typed_by}", is_typed=True)]


def newest_announcement_id(machine_id: UUID | str) -> int:
    """Return what tells later announcements from those so far."""
    newest = Announcement.objects.filter(machine_id=machine_id).first()
    return newest.pk if newest is not None else 0


def moved_machine(machine: Machine) -> Announcement | None:
    """Return the newest start of a machine that is not online where it is protected.

    None if it did not say that it is somewhere else.
    """
    if not machine.is_live or machine.connection_state == ConnectionState.ONLINE:
        return None
    newest = Announcement.objects.filter(machine=machine).first()
    if newest is None or (machine.host in newest.addresses and machine.port == newest.port):
        return None
    return newest


def find_moved(machine: Machine) -> AnsweringAgent:
    """Return the machine's agent from where it announced itself, on the same computer as before.

    Raises:
        Waiting: it answers nowhere; the text says what was tried where.
    """
    macs = {nic.mac.lower() for nic in machine.described.nics}
    return find_agent(machine, Search(machine.pk).places(), macs)


def find_agent(
    machine: Machine,
    places: Sequence[Place],
    expected_macs: Collection[str],
    *,
    boot_id_before: str = "",
    going_fingerprint: str = "",
    waiting_for: Sequence[str] = (),
) -> AnsweringAgent:
    """Return the machine's agent from where it answers.

    expected_macs: the network cards of the computer that the machine has to run on, in lower case.
    boot_id_before: the machine must have restarted since that boot.
    going_fingerprint: of an agent that may still answer in its place: the rescue medium's.
    waiting_for: where an address may still come from, for people.

    Raises:
        Waiting: it answers nowhere yet; the text says what was tried where.
        AgentCertificateChanged, AgentRefusedCore: from a certain place, and it answers nowhere
            else.
    """
    once: dict[tuple[str, int], Place] = {}
    for place in places:
        once.setdefault((place.host, place.port), place)
    asked = list(once.values())[:MAX_PLACES]
    answers = _ask_all(machine, asked)
    tried, trouble = [], None
    for place, answer in zip(asked, answers, strict=True):
        if isinstance(answer, MachineDescription):
            why_not = _why_not(answer, place, expected_macs, boot_id_before)
            if not why_not:
                return AnsweringAgent(place.host, place.port, answer)
        else:
            why_not = _in_short(answer)
            if place.is_certain and _is_trouble(answer, going_fingerprint):
                trouble = trouble or answer
        tried.append(f"{place}: {why_not}")
    if trouble is not None:
        raise trouble
    raise Waiting(" ".join([_sentence(tried), *waiting_for]))


def _sentence(tried: Sequence[str]) -> str:
    if not tried:
        return "The machine's agent has not been heard yet."
    return f"The machine's agent is not responding yet. Tried {'; '.join(tried)}."


def _ask_all(machine: Machine, places: Sequence[Place]) -> list[MachineDescription | AgentError]:
    clients = [
        connection.dial(machine, PING_TIMEOUT_SECONDS, host=place.host, port=place.port)
        for place in places
    ]
    if not clients:
        return []
    with ThreadPoolExecutor(len(clients)) as pool:
        return list(pool.map(_ask, clients))


def _ask(client: AgentClient) -> MachineDescription | AgentError:
    try:
        return client.describe()
    except AgentError as error:
        return error


def _why_not(
    description: MachineDescription,
    place: Place,
    expected_macs: Collection[str],
    boot_id_before: str,
) -> str:
    if boot_id_before and description.boot_id == boot_id_before:
        return "it still answers from before the reboot"
    if place.is_certain:
        return ""
    macs = {nic.mac.lower() for nic in description.nics if nic.mac}
    if macs and expected_macs and macs.isdisjoint(expected_macs):
        return "it runs on another computer, with other network cards"
    return ""


def _is_trouble(error: AgentError, going_fingerprint: str) -> bool:
    if isinstance(error, AgentCertificateChanged):
        return error.fingerprint != going_fingerprint
    return isinstance(error, AgentRefusedCore)


def _in_short(error: AgentError) -> str:
    if isinstance(error, AgentCertificateChanged):
        return "another agent answers there"
    if isinstance(error, AgentRefusedCore):
        return "its agent does not know this core"
    if isinstance(error, AgentUnreachable | AgentGone) and error.__cause__ is not None:
        return reason_of(error.__cause__)
    return str(error)
