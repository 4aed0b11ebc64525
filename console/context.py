"""What every page needs to know. Expensive parts are callables, so they only run if used."""

from dataclasses import dataclass
from functools import cache

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db.models import Count, Q
from django.http import HttpRequest

from agent.version import VERSION
from console.accounts.access import User, may, refusal_for, role_of, rule_of
from console.accounts.roles import Permission
from console.jobs.choices import RUNNABLE, JobState
from console.jobs.models import Job
from console.sections import Link, navigation_templates, notices, registered_tabs

_FIRST = (Link("Home", "console:home"),)
_LAST = (Link("Jobs", "jobs:jobs"), Link("Settings", "console:settings"))


@dataclass(frozen=True)
class Tab:
    """One of the tabs in the header."""

    title: str
    url: str
    is_current: bool
    refusal: str


def current_path(request: HttpRequest) -> str:
    """Return the path of the page that the user sees, even if only a fragment is requested."""
    details = getattr(request, "htmx", None)
    if details and details.current_url_abs_path:
        return str(details.current_url_abs_path).split("?", 1)[0]
    return request.path


def tabs(path: str, user: User) -> list[Tab]:
    """Return the tabs; the one that `path` belongs to is current.

    What the user may not open is greyed out; a manager's view is simple and leaves it out.
    """
    found = [
        Tab(
            link.title,
            link.url,
            path == link.url or (link.url != "/" and path.startswith(link.url)),
            refusal_for(user, rule_of(link.url_name)),
        )
        for link in (*_FIRST, *registered_tabs(), *_LAST)
    ]
    return found if can_watch(user) else [tab for tab in found if not tab.refusal]


def can_watch(user: User) -> bool:
    """Return whether pages lead to machines, replication and jobs for this user."""
    return may(user, Permission.WATCH)


def job_counts() -> dict[str, int]:
    """Return how many jobs are running, need attention and are held."""
    return Job.objects.aggregate(
        running=Count("id", filter=Q(state__in=RUNNABLE)),
        held=Count("id", filter=Q(state=JobState.HELD)),
        attention=Count("id", filter=Q(state=JobState.NEEDS_ATTENTION)),
    )


def frame(request: HttpRequest) -> dict[str, object]:
    """Give templates the core's name, version, tabs, jobs, and this response's nonce."""
    user = getattr(request, "user", None) or AnonymousUser()
    needs_second_factor = getattr(request, "needs_second_factor", False)
    return {
        "core_name": settings.UNDERSTUDY_CORE_NAME,
        "version": VERSION,
        "csp_nonce": getattr(request, "csp_nonce", ""),
        "tabs": lambda: tabs(current_path(request), user),
        "can_watch": lambda: can_watch(user) and not needs_second_factor,
        "needs_second_factor": needs_second_factor,
        "has_users": get_user_model().objects.exists,
        "role": lambda: role_of(user),
        "job_counts": cache(job_counts),
        "navigation_templates": navigation_templates,
        "notices": notices,
    }
