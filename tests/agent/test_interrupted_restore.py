"""A restore is cut: by the link, by the core, by the agent's end, by the machine's power."""

import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.client import AgentClient, PairedAgent
from agent.errors import (
    AgentBusy,
    AgentCertificateChanged,
    AgentGone,
    AgentUnreachable,
    RestoreUnknown,
)
from tests.agent.raw_plan import RawPlan
from tests.places.agent import (
    MIB,
    Core,
    RunningAgent,
    assert_becomes,
    make_core,
    write_disk,
)
from tests.places.link import Link
from tests.places.waiting import wait_until

LIMIT_SECONDS = 30


@pytest.fixture
def paired(rescue: RunningAgent, source: Core) -> PairedAgent:
    return source.pair(rescue)


@pytest.fixture
def client(rescue: RunningAgent, source: Core, paired: PairedAgent) -> AgentClient:
    return rescue.client(source, paired)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """8 MiB of which a half does not deflate, so that a link can be cut in it at many places."""
    path = write_disk(tmp_path / "image.raw", 8 * MIB, 6 * MIB)
    with path.open("r+b") as file:
        file.seek(7 * MIB)
        file.write(os.urandom(MIB // 2))
    return path


class Cancelled(Exception):
    """What a core raises to end a restore."""


def stop_at(grain: int, error: Exception) -> Callable[[int], None]:
    def hook(first_grain: int) -> None:
        if first_grain >= grain:
            raise error

    return hook


def in_background(act: Callable[[], object]) -> Callable[[], list[BaseException]]:
    """Do it in a thread; what is returned waits for its end and tells what it raised."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def wait() -> list[BaseException]:
        thread.join(LIMIT_SECONDS)
        assert not thread.is_alive()
        return failures

    return wait


@pytest.mark.parametrize("cut_after_kib", [1, 40, 400, 1200, 2600, 3300])
def test_a_cut_link_resumes_where_it_stopped(
    cut_after_kib: int,
    rescue: RunningAgent,
    source: Core,
    paired: PairedAgent,
    client: AgentClient,
    image: Path,
) -> None:
    with Link(rescue.port, cut_after_kib * 1024) as link:
        through = AgentClient(
            "127.0.0.1", link.port, source.credentials, paired.certificate_pem, 30
        )
        with pytest.raises((AgentGone, AgentUnreachable)):
            through.restore_disk(0, RawPlan(image), "point")
    wait_until_idle(client)
    state = client.restore_state("point")
    plan = RawPlan(image)

    client.restore_disk(0, plan, "point")

    reached = state.disks[0].next_grain if state.is_known else 0
    assert plan.asked_from == [reached]
    # What has arrived is kept, so only the run that was cut is sent again.
    sent_bytes = sum(run.data_bytes for run in plan.runs) - plan.left_bytes(reached)
    assert sent_bytes >= (cut_after_kib - 2 * 256 - 64) * 1024
    assert_becomes(client, rescue.disks["first"], image)


def wait_until_idle(client: AgentClient) -> None:
    """Wait until the agent has noticed that a connection is gone."""

    def is_idle() -> bool:
        try:
            client.finish_restore("no such point")
        except AgentBusy:
            return False
        except RestoreUnknown:
            return True
        raise AssertionError

    wait_until(is_idle)


def test_a_link_cut_again_and_again_comes_to_an_end(
    rescue: RunningAgent, source: Core, paired: PairedAgent, image: Path
) -> None:
    plan = RawPlan(image, run_grains=2)
    cuts = 0
    with Link(rescue.port) as link:
        through = AgentClient(
            "127.0.0.1", link.port, source.credentials, paired.certificate_pem, 30
        )
        while True:
            link.cut_after_bytes = link.sent_bytes + 1024 * 1024
            try:
                through.restore_disk(0, plan, "point")
            except AgentGone:
                cuts += 1
                assert cuts < 20
            else:
                break

    assert cuts >= 3
    assert plan.asked_from == sorted(plan.asked_from)
    assert_becomes(rescue.client(source, paired), rescue.disks["first"], image)


def test_a_cancelled_restore_resumes_later(
    rescue: RunningAgent, client: AgentClient, image: Path
) -> None:
    calls = 0

    def check_cancel() -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise Cancelled

    with pytest.raises(Cancelled):
        client.restore_disk(0, RawPlan(image), "point", check_cancel=check_cancel)
    plan = RawPlan(image)
    client.restore_disk(0, plan, "point")

    assert 0 < plan.asked_from[0] < 128
    assert_becomes(client, rescue.disks["first"], image)


def test_a_delta_that_was_cut_is_resumed(
    rescue: RunningAgent, client: AgentClient, image: Path, tmp_path: Path
) -> None:
    newer = tmp_path / "newer.raw"
    newer.write_bytes(os.urandom(4 * MIB) + image.read_bytes()[4 * MIB :])
    client.restore_disk(0, RawPlan(image), "old")
    cut = RawPlan(newer, image, before_run=stop_at(40, Cancelled()))
    with pytest.raises(Cancelled):
        client.restore_disk(0, cut, "new", since_token="old")

    rest = RawPlan(newer, image)
    client.restore_disk(0, rest, "new", since_token="old")

    assert rest.asked_from == [40]
    assert_becomes(client, rescue.disks["first"], newer)


def test_a_link_cut_during_a_delta_is_resumed(
    rescue: RunningAgent,
    source: Core,
    paired: PairedAgent,
    client: AgentClient,
    image: Path,
    tmp_path: Path,
) -> None:
    newer = tmp_path / "newer.raw"
    newer.write_bytes(os.urandom(4 * MIB) + image.read_bytes()[4 * MIB :])
    client.restore_disk(0, RawPlan(image), "old")
    with Link(rescue.port, 3 * MIB) as link:
        through = AgentClient(
            "127.0.0.1", link.port, source.credentials, paired.certificate_pem, 30
        )
        with pytest.raises(AgentGone):
            through.restore_disk(0, RawPlan(newer, image), "new", since_token="old")

    rest = RawPlan(newer, image)
    client.restore_disk(0, rest, "new", since_token="old")

    assert rest.asked_from[0] >= 32
    assert_becomes(client, rescue.disks["first"], newer)


def test_until_its_restart_a_machine_has_nothing_to_start_from(
    rescue: RunningAgent, client: AgentClient, image: Path, tmp_path: Path
) -> None:
    """Whatever is on its disks: power may be lost at any time, and its firmware tries them."""
    newer, second = tmp_path / "newer.raw", tmp_path / "second.raw"
    newer.write_bytes(image.read_bytes()[: 2 * MIB] + os.urandom(6 * MIB))
    second.write_bytes(os.urandom(4 * MIB))

    def stop(plan: RawPlan, token: str, since_token: str | None = None) -> None:
        with pytest.raises(Cancelled):
            client.restore_disk(0, plan, token, since_token)
        wait_until_idle(client)
        assert heads(rescue) == [bytes(4096)] * 2

    stop(RawPlan(image, before_run=stop_at(40, Cancelled())), "old")
    client.restore_disk(0, RawPlan(image), "old")
    client.restore_disk(1, RawPlan(second), "old")
    client.finish_restore("old")
    stop(RawPlan(newer, image, before_run=stop_at(80, Cancelled())), "new", "old")
    rescue.restart()
    client.restore_disk(0, RawPlan(newer, image), "new", since_token="old")
    assert heads(rescue) == [bytes(4096)] * 2
    client.restart_from_disk()

    assert rescue.disks["first"].read_bytes() == newer.read_bytes()
    assert rescue.disks["second"].read_bytes() == second.read_bytes()


def heads(rescue: RunningAgent) -> list[bytes]:
    return [disk.read_bytes()[:4096] for disk in rescue.disks.values()]


def test_what_a_machine_could_start_from_before_is_gone_at_once(
    rescue: RunningAgent, client: AgentClient, image: Path
) -> None:
    rescue.disks["first"].write_bytes(os.urandom(8 * MIB))
    seen: list[bytes] = []

    client.restore_disk(
        0, RawPlan(image, before_run=lambda _grain: seen.append(heads(rescue)[0])), "point"
    )

    assert seen[0] == bytes(4096)


def test_after_a_delta_that_was_cut_the_old_point_is_written_whole(
    rescue: RunningAgent, client: AgentClient, image: Path, tmp_path: Path
) -> None:
    newer = write_disk(tmp_path / "newer.raw", 8 * MIB, 6 * MIB)
    client.restore_disk(0, RawPlan(image), "old")
    cut = RawPlan(newer, image, before_run=stop_at(40, Cancelled()))
    with pytest.raises(Cancelled):
        client.restore_disk(0, cut, "new", since_token="old")

    with pytest.raises(RestoreUnknown, match="holds new, incomplete"):
        client.restore_disk(0, RawPlan(newer, image), "newest", since_token="old")
    again = RawPlan(image)
    client.restore_disk(0, again, "old")

    assert again.asked_from == [0]
    assert_becomes(client, rescue.disks["first"], image)


def test_an_agent_that_was_killed_resumes_after_its_start(
    rescue: RunningAgent, client: AgentClient, image: Path
) -> None:
    def kill(first_grain: int) -> None:
        if first_grain >= 64 and rescue.process is not None:
            # On the disk for certain, so that the restore can resume.
            wait_until(lambda: client.restore_state("point").disks[0].next_grain > 0)
            rescue.stop(signal.SIGKILL)

    slow = RawPlan(image, before_run=kill, run_grains=1)
    with pytest.raises(AgentGone):
        client.restore_disk(0, slow, "point")
    rescue.start()
    plan = RawPlan(image)
    client.restore_disk(0, plan, "point")

    assert plan.asked_from[0] > 0
    assert_becomes(client, rescue.disks["first"], image)


def test_after_a_power_loss_everything_is_sent_again(
    rescue: RunningAgent, source: Core, client: AgentClient, image: Path
) -> None:
    with pytest.raises(Cancelled):
        client.restore_disk(0, RawPlan(image, before_run=stop_at(64, Cancelled())), "point")
    wait_until_idle(client)
    lose_power(rescue)

    with pytest.raises(AgentCertificateChanged):
        client.restore_state("point")
    again = rescue.client(source, source.pair(rescue))
    assert not again.restore_state("point").is_known
    plan = RawPlan(image)
    again.restore_disk(0, plan, "point")

    assert plan.asked_from == [0]
    assert_becomes(again, rescue.disks["first"], image)


def lose_power(rescue: RunningAgent) -> None:
    """Restart the machine: its memory is lost, and the disk holds half of a flush."""
    rescue.stop(signal.SIGKILL)
    shutil.rmtree(rescue.folder / "state")
    with rescue.disks["first"].open("r+b") as disk:
        disk.seek(2 * MIB)
        disk.write(os.urandom(MIB))
    rescue.start()


class Gate:
    """Holds a plan at its first run until it is let go."""

    def __init__(self) -> None:
        self.is_inside = threading.Event()
        self.may_go_on = threading.Event()

    def __call__(self, _first_grain: int) -> None:
        self.is_inside.set()
        assert self.may_go_on.wait(LIMIT_SECONDS)


def test_another_core_has_to_wait_and_is_told_for_whom(
    rescue: RunningAgent, source: Core, client: AgentClient, image: Path
) -> None:
    other = make_trusted(rescue, client)
    gate = Gate()
    failures = in_background(
        lambda: client.restore_disk(0, RawPlan(image, before_run=gate), "point")
    )
    assert gate.is_inside.wait(LIMIT_SECONDS)

    with pytest.raises(AgentBusy, match="written for core 'source-core', since 20"):
        other.restore_disk(0, RawPlan(image), "other")
    with pytest.raises(AgentBusy):
        other.restart_from_disk()
    with pytest.raises(AgentBusy):
        other.finish_restore("point")

    gate.may_go_on.set()
    assert failures() == []
    assert_becomes(client, rescue.disks["first"], image)


def make_trusted(rescue: RunningAgent, client: AgentClient) -> AgentClient:
    core = make_core(rescue.folder / "other-core", "other-core")
    client.trust(core.certificate_pem, core.name)
    pem = (rescue.folder / "state/agent.pem").read_text()
    return AgentClient("127.0.0.1", rescue.port, core.credentials, pem, 30)


def test_a_cores_new_call_ends_its_own_older_one(
    rescue: RunningAgent, client: AgentClient, image: Path
) -> None:
    gate = Gate()
    failures = in_background(
        lambda: client.restore_disk(0, RawPlan(image, before_run=gate), "point")
    )
    assert gate.is_inside.wait(LIMIT_SECONDS)

    client.restore_disk(0, RawPlan(image), "point")
    gate.may_go_on.set()

    assert [type(failure) for failure in failures()] == [AgentGone]
    assert_becomes(client, rescue.disks["first"], image)


def test_two_disks_may_be_written_at_once(
    rescue: RunningAgent, client: AgentClient, image: Path, tmp_path: Path
) -> None:
    second = write_disk(tmp_path / "second.raw", 4 * MIB, 2 * MIB)
    gate = Gate()
    failures = in_background(
        lambda: client.restore_disk(0, RawPlan(image, before_run=gate), "point")
    )
    assert gate.is_inside.wait(LIMIT_SECONDS)

    client.restore_disk(1, RawPlan(second), "point")
    gate.may_go_on.set()

    assert failures() == []
    assert_becomes(client, rescue.disks["second"], second)
    client.finish_restore("point")
