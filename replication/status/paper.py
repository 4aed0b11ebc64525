"""DR status on paper, as PDF: the page's answers and tables, without its links."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from django.utils import timezone
from fpdf import FPDF
from fpdf.enums import TableBordersLayout
from fpdf.fonts import FontFace

from console.wording import ago, bytes_human, duration_human
from replication.status.report import CoreStatus, MachineStatus, Report

_MARGIN_MM = 14
_GREY = (90, 96, 110)
_COLUMNS = ("Machine", "State", "Data at risk now", "Recovery takes", "Last proven")
_WIDTHS = (15, 28, 22, 17, 18)
# The fonts that every reader of PDF has know Latin-1 alone.
_PLAIN = str.maketrans({"–": "-", "—": "-", "“": '"', "”": '"', "’": "'", "…": "..."})


def pdf_of(report: Report, core_name: str, audit_head: str) -> bytes:
    """Return the report as PDF.

    audit_head: the digest that the audit log ends with, by which a later export can be checked.
    """
    paper = _Paper(core_name, report.at)
    paper.write_title("DR status", f"of {core_name} on {_moment(report.at)}")
    paper.write_title(report.verdict.title, report.verdict.text, size=13)
    for line in answers(report):
        paper.write_line(line)
    for core in report.cores:
        paper.write_title(core.name, core.objectives_text, size=13)
        paper.write_table([_COLUMNS, *(_cells(row, report.at) for row in core.machines)])
    paper.write_title("What this rests on", size=13)
    for line in _foundations(report.cores, audit_head):
        paper.write_line(line)
    return bytes(paper.output())


def answers(report: Report) -> Iterator[str]:
    """Yield the answers at the top of the page, a sentence each."""
    total = report.summary.total
    if not total:
        return
    machines = "1 machine has" if total == 1 else f"{total} machines have"
    yield f"Protected: {report.with_second_copy} of {machines} a second copy at another site."
    most, slowest = report.most_loss, report.slowest
    if most is not None:
        lost = duration_human(most.loss.seconds)
        yield f"Data at risk: {lost} at most if a site were lost now, of {most.machine.name}."
    if slowest is not None and slowest.prediction is not None:
        name, text = slowest.machine.name, slowest.prediction.text
        yield f"Recovery: {text} predicted for the slowest machine, {name}."
    else:
        yield "Recovery: how long it takes is not known; none was measured here yet."
    if report.never_proven:
        yield f"Proven: {report.never_proven} of the machines never."
    else:
        yield f"Proven: the oldest of the last proofs was {ago(report.oldest_proof_at, report.at)}."


def _cells(row: MachineStatus, now: datetime) -> Sequence[str]:
    loss, prediction = row.loss, row.prediction
    lost = "Not known" if loss.seconds is None else duration_human(loss.seconds)
    size = "" if loss.bytes is None else f", {bytes_human(loss.bytes)}"
    takes = "Not known" if row.can_be_recovered else "Not possible now"
    return (
        f"{row.machine.name}\n{row.copy_text}",
        "\n".join([row.readiness.state.label, *row.readiness.reasons]),
        f"{lost}{size}\n{row.point_grade_text}",
        takes
        if prediction is None
        else f"{prediction.text}\n{row.recovery_grade_text}\nBy {prediction.rests_on}.",
        "\n".join(_proofs(row, now)),
    )


def _proofs(row: MachineStatus, now: datetime) -> Iterator[str]:
    last, machine = row.last_recovery, row.machine
    if last is not None:
        yield f"{last.kind.label} {ago(last.ended_at, now)} in {duration_human(last.seconds)}"
    if machine.proven_at is not None and machine.proven_point_at is not None:
        point = _moment(machine.proven_point_at)
        yield f"Read back {ago(machine.proven_at, now)}: point of {point}"
    elif last is None:
        yield "Never"


def _foundations(cores: Sequence[CoreStatus], audit_head: str) -> Iterator[str]:
    if any(row.loss.bytes is not None for core in cores for row in core.machines):
        yield (
            "Bytes at risk are counted as far as points wait to be sent, and estimated from the "
            "latest points for what was written since."
        )
    yield (
        "Recovery times are predicted from exports, failovers and restores that were measured on "
        "this core. What was never measured is not known."
    )
    yield f"The audit log of this core ends with the digest {audit_head}."


def _moment(at: datetime) -> str:
    return f"{timezone.localtime(at):%Y-%m-%d %H:%M %Z}"


class _Paper(FPDF):
    """Sheets of A4, across, with the core, the time and the number at the foot of each."""

    def __init__(self, core_name: str, at: datetime) -> None:
        super().__init__(orientation="landscape", format="A4")
        self._foot = f"DR status of {core_name}, {_moment(at)}"
        self.set_title(_latin(self._foot))
        self.set_creation_date(at)
        self.set_lang("en")
        self.set_margin(_MARGIN_MM)
        self.set_auto_page_break(True, margin=_MARGIN_MM + 6)
        self.add_page()

    def footer(self) -> None:
        """Write the foot of a sheet. Called by fpdf2."""
        self.set_y(-_MARGIN_MM)
        self._grey(8)
        self.cell(0, 4, _latin(f"{self._foot}, page {self.page_no()} of {{nb}}"), align="R")

    def write_title(self, title: str, text: str = "", *, size: int = 18) -> None:
        self.ln(3)
        self._black(size, "B")
        self.multi_cell(0, size * 0.5, _latin(title), new_x="LMARGIN", new_y="NEXT")
        if text:
            self._grey(10)
            self.multi_cell(0, 5, _latin(text), new_x="LMARGIN", new_y="NEXT")
        self.ln(1)

    def write_line(self, text: str) -> None:
        self._black(10)
        self.multi_cell(0, 5, _latin(text), new_x="LMARGIN", new_y="NEXT")

    def write_table(self, rows: Sequence[Sequence[str]]) -> None:
        """Write a table; the first row is repeated on every sheet."""
        self._black(8)
        with self.table(
            borders_layout=TableBordersLayout.HORIZONTAL_LINES,
            col_widths=_WIDTHS,
            headings_style=FontFace(emphasis="BOLD"),
            line_height=4,
            padding=1,
            text_align="LEFT",
            v_align="TOP",
        ) as table:
            for cells in rows:
                table.row([_latin(cell) for cell in cells])

    def _black(self, size: int, style: str = "") -> None:
        self.set_font("Helvetica", style, size)
        self.set_text_color(0)

    def _grey(self, size: int) -> None:
        self.set_font("Helvetica", "", size)
        self.set_text_color(*_GREY)


def _latin(text: str) -> str:
    """Return the text with what the fonts lack replaced by a question mark."""
    return text.translate(_PLAIN).encode("latin-1", "replace").decode("latin-1")
