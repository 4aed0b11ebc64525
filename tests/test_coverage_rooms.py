"""Coverage is added up by room."""

from typing import Any

from tests.coverage_rooms import ROOMS, Counted, count_rooms, room_of, table, too_low


def summary(statements: int, covered: int, branches: int = 0, covered_branches: int = 0) -> Any:
    return {
        "summary": {
            "num_statements": statements,
            "covered_lines": covered,
            "num_branches": branches,
            "covered_branches": covered_branches,
        }
    }


def test_a_file_belongs_to_the_innermost_room() -> None:
    assert room_of("console/jobs/engine.py") == "console/jobs"
    assert room_of("console/views.py") == "console"
    assert room_of("lab/run.py") is None


def test_lines_and_branches_count_together() -> None:
    files = {
        "agent/service.py": summary(10, 9, 4, 3),
        "agent/client/client.py": summary(6, 6),
        "lab/run.py": summary(100, 0),
    }
    assert count_rooms(files)["agent"].percent == 90.0


def test_a_room_below_the_limit_is_named() -> None:
    counted = {room: Counted(10, 10, 2, 2) for room in ROOMS}
    counted["vsphere"] = Counted(10, 9, 2, 1)
    assert too_low(counted, 90) == ["vsphere"]
    assert too_low(counted, 0) == []


def test_the_table_has_a_line_for_each_room() -> None:
    lines = table({room: Counted() for room in ROOMS}).splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(ROOMS)
