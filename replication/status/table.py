"""DR status as a CSV file, for spreadsheets and scripts. Column names are never renamed."""

import csv
import io
from collections.abc import Iterator

from replication.status.report import MachineStatus, Report

COLUMNS = (
    "machine",
    "source_core",
    "state",
    "reasons",
    "second_copy",
    "newest_point_at",
    "loss_seconds",
    "loss_bytes",
    "point_objective_seconds",
    "point_grade",
    "predicted_low_seconds",
    "predicted_high_seconds",
    "prediction_rests_on",
    "recovery_objective_seconds",
    "recovery_grade",
    "proven_at",
    "last_recovery",
    "last_recovery_at",
    "last_recovery_seconds",
    "points_since_proof",
    "bytes_since_proof",
)
# A spreadsheet takes a cell that begins with one of these for a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def csv_of(report: Report) -> str:
    """Return the machines as CSV, worst first; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    rows = {row.machine.machine_id: row for row in report.machines}
    for entry in report.summary.machines:
        writer.writerow([_cell(value) for value in _values(rows[entry.machine_id])])
    return text.getvalue()


def _values(row: MachineStatus) -> Iterator[object]:
    machine, loss, prediction, last = row.machine, row.loss, row.prediction, row.last_recovery
    yield machine.name
    yield machine.core_name
    yield row.readiness.state.value
    yield " ".join(row.readiness.reasons)
    yield machine.copy.where.value
    yield machine.surviving_at and machine.surviving_at.isoformat(timespec="seconds")
    yield None if loss.seconds is None else round(loss.seconds)
    yield loss.bytes
    yield round(row.objectives.point_seconds)
    yield row.point_grade.value
    yield None if prediction is None else round(prediction.low_seconds)
    yield None if prediction is None else round(prediction.high_seconds)
    yield "" if prediction is None else prediction.rests_on
    yield round(row.objectives.recovery_seconds)
    yield row.recovery_grade.value
    yield row.proven_at and row.proven_at.isoformat(timespec="seconds")
    yield "" if last is None else last.kind.value
    yield None if last is None else last.ended_at.isoformat(timespec="seconds")
    yield None if last is None else round(last.seconds)
    yield machine.newer_points
    yield machine.newer_bytes


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value
