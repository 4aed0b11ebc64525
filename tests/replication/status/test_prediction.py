"""How long a recovery is predicted to take, by examples and by properties."""

import uuid
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from replication.status.prediction import Recovery, RecoveryKind, predict
from tests.factories import GIB, NOON


def recovery(kind: RecoveryKind = RecoveryKind.EXPORT, **changes: Any) -> Recovery:
    values: dict[str, Any] = {
        "machine_id": uuid.UUID(int=1),
        "ended_at": NOON,
        "url": "/jobs/1/",
        "copied_bytes": GIB,
        "copy_seconds": 100.0,
        **changes,
    }
    return Recovery(kind, **values)


def test_what_was_never_measured_is_not_known() -> None:
    assert predict(GIB, GIB, []) is None
    assert predict(GIB, GIB, [recovery(copied_bytes=0)]) is None
    assert predict(0, 0, [recovery()]) is None


def test_exports_alone_say_only_how_long_copying_takes() -> None:
    found = predict(GIB, 2 * GIB, [recovery(), recovery(copy_seconds=200.0)])
    assert found is not None
    assert (found.low_seconds, found.high_seconds) == (100.0, 400.0)
    assert not found.is_whole
    assert found.text == "1 min to 7 min to copy"
    assert "2 exports measured here; no machine was started yet" in found.rests_on


def test_a_failover_says_how_long_starting_takes() -> None:
    failover = recovery(RecoveryKind.FAILOVER, start_seconds=60.0)
    found = predict(GIB, GIB, [failover, recovery()])
    assert found is not None
    assert (found.low_seconds, found.high_seconds, found.is_whole) == (160.0, 160.0, True)
    assert found.text == "2 min to 3 min"
    assert found.rests_on == "1 failover and 1 export measured here"


def test_a_restore_counts_only_if_nothing_was_copied_into_a_vm() -> None:
    restore = recovery(RecoveryKind.RESTORE, copy_seconds=1000.0, start_seconds=30.0)
    alone = predict(GIB, GIB, [restore])
    beside = predict(GIB, GIB, [restore, recovery()])
    assert alone is not None
    assert alone.high_seconds == 1030.0
    assert beside is not None
    assert beside.high_seconds == 100.0


recoveries = st.builds(
    recovery,
    st.sampled_from(RecoveryKind),
    copied_bytes=st.integers(1, 1 << 45),
    copy_seconds=st.floats(0.1, 1e6),
    start_seconds=st.none() | st.floats(0, 1e5),
)


@given(st.integers(1, 1 << 45), st.integers(0, 1 << 40), st.lists(recoveries, min_size=1))
def test_the_range_is_one_and_holds_what_was_measured(
    least: int, more: int, measured: list[Recovery]
) -> None:
    found = predict(least, least + more, measured)
    assert found is not None
    assert 0 < found.low_seconds <= found.high_seconds * 1.000001
    assert found.is_whole == any(one.start_seconds is not None for one in found.recoveries)
    for one in found.recoveries:
        of_its_size = predict(one.copied_bytes, one.copied_bytes, measured)
        assert of_its_size is not None
        if of_its_size.is_whole == (one.start_seconds is not None):
            assert of_its_size.low_seconds <= one.seconds * 1.000001
            assert one.seconds <= of_its_size.high_seconds * 1.000001
