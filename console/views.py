"""Pages of the frame itself: home, settings, and the parts of the frame that update."""

import hashlib
import platform

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from agent.version import VERSION
from console import readiness
from console.htmx import render_page
from console.identity import this_core
from console.sections import registered_starts, settings_sections

# The worst machines are shown; all of them are one click away.
_MACHINES_SHOWN = 50


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Answer the manager's question: could the company recover today?"""
    summary = readiness.collect(timezone.now())
    shown = request.GET.get("show", "")
    machines = [entry for entry in summary.machines if shown in ("", "all", entry.state)]
    limit = None if shown else _MACHINES_SHOWN
    context = {
        "summary": summary,
        "verdict": readiness.decide(summary),
        "machines": machines[:limit],
        "left_out": len(machines[limit:]) if limit else 0,
        "shown": shown,
        "starts": registered_starts(),
    }
    return render_page(request, "console/home.html", context, fragment="readiness")


@require_safe
def settings_page(request: HttpRequest) -> HttpResponse:
    """Show this core's identity, its connections and its versions."""
    context = {
        "core": this_core(),
        "address": settings.UNDERSTUDY_ADDRESS,
        "port": settings.UNDERSTUDY_CORE_PORT,
        "home": settings.UNDERSTUDY_HOME,
        "database": str(settings.DATABASES["default"]["ENGINE"]).rsplit(".", 1)[-1],
        "versions": {
            "Understudy": VERSION,
            "Python": platform.python_version(),
            "Django": django.get_version(),
        },
        "sections": [
            {"template": section.template, "values": section.values(request)}
            for section in settings_sections()
        ],
    }
    return render(request, "console/settings.html", context)


@require_safe
def frame(request: HttpRequest) -> HttpResponse:
    """Update navigation and job indicator; 204 if they have not changed since `seen`."""
    response = render(request, "console/_frame_update.html", {"oob": True})
    seen = hashlib.sha256(response.content).hexdigest()[:16]
    if request.GET.get("seen") == seen:
        return HttpResponse(status=204)
    return render(request, "console/_frame_update.html", {"oob": True, "seen": seen})
