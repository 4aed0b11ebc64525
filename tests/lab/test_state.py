"""`lab.json` is changed as a whole or not at all."""

import threading
from pathlib import Path

import pytest

from lab.state import SOURCE_DEAD, SOURCE_UP, changed_state, load_state


def test_a_new_lab_has_a_living_source(tmp_path: Path) -> None:
    assert load_state(tmp_path).source == SOURCE_UP
    assert not (tmp_path / "lab.json").exists()


def test_a_change_is_read_back(tmp_path: Path) -> None:
    with changed_state(tmp_path / "lab") as state:
        state.source = SOURCE_DEAD
        state.protected_machines.append("db-01")
    again = load_state(tmp_path / "lab")
    assert again.source == SOURCE_DEAD
    assert again.protected_machines == ["db-01"]


def _fail_in_a_change(home: Path) -> None:
    with changed_state(home) as state:
        state.source = SOURCE_DEAD
        raise RuntimeError


def test_a_change_that_fails_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        _fail_in_a_change(tmp_path)
    assert load_state(tmp_path).source == SOURCE_UP


def test_changes_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    def protect(name: str) -> None:
        with changed_state(tmp_path) as state:
            state.protected_machines.append(name)

    threads = [threading.Thread(target=protect, args=(f"m-{n}",)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(load_state(tmp_path).protected_machines) == sorted(f"m-{n}" for n in range(20))
