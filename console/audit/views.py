"""Pages of the audit log: the list, one entry, the export."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from console.accounts.access import may
from console.accounts.roles import Permission
from console.audit.acts import page_of, title_of
from console.audit.choices import Outcome
from console.audit.forms import FilterForm
from console.audit.listing import Page, export_lines, read_page
from console.audit.log import read_head, record
from console.audit.models import Entry

TONES = {Outcome.DONE: "ok", Outcome.REFUSED: "warn", Outcome.FAILED: "bad"}


@require_safe
def log(request: HttpRequest) -> HttpResponse:
    """List entries, newest first; the filters are in the address."""
    head = read_head()
    form = FilterForm(request.GET)
    filters = form.filters
    # What a wrong filter leaves would be other entries than those that were asked for.
    page = (
        Page()
        if form.errors
        else read_page(filters, _number(request, "older"), _number(request, "newer"))
    )
    context = {
        "form": form,
        "head": head,
        "rows": [_shown(entry) for entry in page.entries],
        "page": page,
        "is_filtered": bool(filters.given or form.errors),
        "query": "" if form.errors else urlencode(filters.given),
    }
    return render(request, "audit/log.html", context, status=422 if form.errors else 200)


@require_safe
def entry(request: HttpRequest, number: int) -> HttpResponse:
    """Show all facts of one entry."""
    found = Entry.objects.filter(number=number).first()
    if found is None:
        raise Http404
    return render(request, "audit/entry.html", _shown(found))


@require_safe
def export(request: HttpRequest) -> StreamingHttpResponse | HttpResponse:
    """Send the whole log, or what the filters select, as JSON lines."""
    form = FilterForm(request.GET)
    filters = form.filters
    if form.errors:
        return log(request)
    what = "a part" if filters.given else "all"
    record("audit:export", f"Exported {what} of the audit log.")
    name = f"audit-{timezone.now():%Y-%m-%d-%H%M%S}{'-part' if filters.given else ''}.jsonl"
    return StreamingHttpResponse(
        export_lines(filters),
        content_type="application/jsonl; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Cache-Control": "no-store",
        },
    )


def audit_section(request: HttpRequest) -> Mapping[str, Any]:
    """Return what Settings shows of the audit log."""
    return {"head": read_head()} if may(request.user, Permission.AUDIT) else {}


def _shown(found: Entry) -> dict[str, Any]:
    return {
        "entry": found,
        "title": title_of(found.act),
        "tone": TONES[Outcome(found.outcome)],
        "object_url": page_of(found.object_kind, found.object_id),
    }


def _number(request: HttpRequest, name: str) -> int | None:
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
