"""The site's door: every act on the site is recorded, also one that no room thought of.

What a room records itself, such as a job that was ordered, says more; then nothing is added, unless
the act was refused or failed in the end.
"""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, ResolverMatch, resolve

from console.accounts.addresses import client_address
from console.audit.acts import subject_of, title_of
from console.audit.choices import ActorKind, Outcome
from console.audit.door import Actor, come_in
from console.audit.log import Subject, record

GetResponse = Callable[[HttpRequest], HttpResponse]
_LOOKS_ONLY = ("GET", "HEAD", "OPTIONS", "TRACE")


def site_door(get_response: GetResponse) -> GetResponse:
    """Have what is recorded meanwhile be by who asks; record what nothing else has recorded."""

    def middleware(request: HttpRequest) -> HttpResponse:
        with come_in(actor_of(request)) as door:
            match = _find_match(request)
            # A stranger's attempt to sign in is recorded where it is checked.
            if request.method in _LOOKS_ONLY or match is None or not request.user.is_authenticated:
                return get_response(request)
            # Looked up before the act, which may remove it.
            subject = subject_of(match.kwargs)
            response = get_response(request)
            outcome = _outcome_of(response)
            # What was recorded before a refusal may have been undone with its transaction.
            if outcome and not (outcome == Outcome.DONE and door.entries):
                _record(request, response, outcome, match.view_name, subject)
            return response

    return middleware


def actor_of(request: HttpRequest) -> Actor:
    """Return who asks."""
    user = request.user
    return Actor(
        ActorKind.PERSON,
        user.get_username() if user.is_authenticated else "nobody",
        str(user.pk or ""),
        client_address(request),
    )


def _find_match(request: HttpRequest) -> ResolverMatch | None:
    try:
        return resolve(request.path_info)
    except Resolver404:
        return None


def _record(
    request: HttpRequest, response: HttpResponse, outcome: Outcome, act: str, subject: Subject
) -> None:
    sentence = getattr(response, "said", "") or title_of(act)
    reason = request.POST.get("reason", "")
    record(act, sentence, subject, outcome=outcome, reason=reason)


def _outcome_of(response: HttpResponse) -> Outcome | None:
    """Return how an act went; None if nothing was asked for yet, as in a form with errors."""
    if response.status_code in (302, 303) or "HX-Redirect" in response.headers:
        return Outcome.DONE
    if response.status_code in (403, 409):
        return Outcome.REFUSED
    return Outcome.FAILED if response.status_code >= 500 else None
