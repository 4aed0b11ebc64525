"""DR status as PDF."""

import re
import uuid
import zlib
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from console.identity import this_core
from protected_machines.choices import MachineKind, PointState
from protected_machines.models import Machine
from recovery_store.store import Store
from replication.status.paper import pdf_of
from replication.status.report import gather_report
from tests.factories import NOON, make_machine, make_recovery_point
from tests.replication.recoveries import make_recovery

NOW = NOON + timedelta(minutes=5)
_STREAM = re.compile(rb"stream\r?\n(.*?)\r?\nendstream", re.DOTALL)
_SHOWN = re.compile(rb"\(((?:[^()\\]|\\.)*)\) Tj")


def text_of(pdf: bytes) -> str:
    """Return what the sheets say, line after line."""
    pages = [zlib.decompress(found) for found in _STREAM.findall(pdf)]
    shown = [text for page in pages for text in _SHOWN.findall(page)]
    text = re.sub(rb"\\(.)", rb"\1", b" ".join(shown)).decode("latin-1")
    return " ".join(text.split())


@pytest.fixture
def machine(db: None, store: Store) -> Machine:
    core = this_core()
    machine = make_machine(
        name="erp-01",
        kind=MachineKind.FAILED_OVER,
        owner_core_id=core.id,
        source_core_id=uuid.uuid4(),
    )
    make_recovery_point(machine, state=PointState.PROVEN)
    make_recovery(machine, "failover", NOON - timedelta(days=1), 20, 130, 95)
    return machine


def test_it_says_what_the_page_says(machine: Machine) -> None:
    report = gather_report(NOW)
    text = text_of(pdf_of(report, "DR site", "ab" * 32))
    for shown in (
        "DR status",
        "of DR site on 2026-03-01 12:05 UTC",
        "Yes, but 1 machine at risk",
        "0 of 1 machine has a second copy",
        "Data at risk: 5 min at most",
        "erp-01 No second copy",
        "It has failed over and has no second copy",
        "Within objective",
        "1 failover measured",
        "Failover 24 hours ago",
        f"ends with the digest {'ab' * 32}.",
        "page 1 of 1",
    ):
        assert shown in text, shown


def test_a_long_list_has_its_head_on_every_sheet(machine: Machine) -> None:
    for number in range(40):
        make_recovery_point(make_machine(name=f"web-{number:02}"), state=PointState.PROVEN)
    text = text_of(pdf_of(gather_report(NOW), "DR site", ""))
    sheets = int(re.findall(r"page \d+ of (\d+)", text)[-1])
    assert sheets > 1
    # Two tables: one for each core.
    assert text.count("Data at risk now") >= sheets
    assert all(f"web-{number:02}" in text for number in range(40))


def test_what_the_font_lacks_is_replaced(machine: Machine) -> None:
    Machine.objects.update(name="Łódź–“01” 日本 (ü)")
    assert '?ód?-"01" ?? (ü)' in text_of(pdf_of(gather_report(NOW), "Ä日", ""))


def test_it_can_be_downloaded(signed_in: Client, machine: Machine) -> None:
    url = reverse("status:pdf")
    assert f'href="{url}"' in signed_in.get("/status/").content.decode()
    response = signed_in.get(url)
    assert response.headers["Content-Type"] == "application/pdf"
    day = timezone.localdate()
    disposition = f'attachment; filename="dr-status-{day}.pdf"'
    assert response.headers["Content-Disposition"] == disposition
    assert response.content.startswith(b"%PDF-")
    assert "ends with the digest" in text_of(response.content)


def test_an_empty_core_has_a_report_too(signed_in: Client, store: Store) -> None:
    assert "Nothing is protected here yet" in text_of(signed_in.get(reverse("status:pdf")).content)
