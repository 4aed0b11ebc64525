"""Somebody else who acts in the very moment in which a step does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from console.jobs.doors import doors
from console.jobs.workflow import Step, StepAction


@contextmanager
def just_before_update(step: str, column: str, act: Callable[[], object]) -> Iterator[None]:
    """Have `act` happen right before the first UPDATE of that column that the step sends.

    What it writes belongs to the step's transaction. Fails when no such UPDATE came.
    """
    has_acted = []

    def statement(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        assignments = sql.partition(" WHERE ")[0]
        if not has_acted and sql.startswith("UPDATE ") and f'"{column}" =' in assignments:
            has_acted.append(True)
            act()
        return execute(sql, *rest)

    def call(running: Step, action: StepAction, context: Any, undo: bool) -> Any:
        if running.name != step or undo:
            return previous(running, action, context, undo)
        with connection.execute_wrapper(statement):
            return previous(running, action, context, undo)

    previous = doors.call
    doors.call = call
    try:
        yield
    finally:
        doors.call = previous
    assert has_acted, f"{step} sent no UPDATE of {column}"
