"""Settings → Users: who may sign in to this core, and what an administrator can do about it."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from console.accounts import users
from console.accounts.access import get_for, role_of
from console.accounts.invitations import VALID_HOURS, Link, invite, let_choose_password
from console.accounts.models import Invitation
from console.accounts.roles import Role
from console.accounts.user_forms import InvitationForm, RoleForm
from console.accounts.users import LastAdministrator
from console.dialogs import render_dialog
from console.htmx import redirect_after, refuse
from console.menus import MenuItem


def users_section(request: HttpRequest) -> dict[str, Any]:
    """Return what the section of the Settings page shows: users, and links that are still open."""
    with_factor = set(
        Authenticator.objects.exclude(type=Authenticator.Type.RECOVERY_CODES).values_list(
            "user_id", flat=True
        )
    )
    people = User.objects.select_related("given_role").order_by("username")
    return {
        "rows": [
            {
                "user": user,
                "role": shown_role(user),
                "has_second_factor": user.pk in with_factor,
                "menu": _menu(user, request.user, user.pk in with_factor),
            }
            for user in people
        ],
        "invitations": Invitation.objects.open(timezone.now()),
    }


def shown_role(user: User) -> str:
    """Return the name of the user's role, also that of a closed account."""
    if user.is_superuser:
        return str(Role.ADMINISTRATOR.label)
    given = getattr(user, "given_role", None)
    return str(given.get_role_display()) if given is not None else "none"


def _menu(user: User, by: Any, has_second_factor: bool) -> list[MenuItem]:
    key = user.pk
    if user.is_active:
        state = MenuItem(
            "Disable",
            "pause",
            "users:disable",
            key,
            "post",
            users.refuse_disable(user, by),
            is_danger=True,
        )
    else:
        state = MenuItem("Enable", "resume", "users:enable", key, "post")
    no_factor = "" if has_second_factor else f"{user.username} has no second factor."
    return [
        MenuItem("Change Role", "user", "users:role", key, "dialog"),
        MenuItem("New Password", "key", "users:password", key, "dialog"),
        MenuItem("Reset Second Factor", "shield", "users:second-factor", key, "post", no_factor),
        MenuItem("Sign Out Everywhere", "sign-out", "users:sign-out", key, "post"),
        state,
    ]


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def invite_user(request: HttpRequest) -> HttpResponse:
    """Ask for whom and which role; make the link, and show it this once."""
    form = InvitationForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        name, role = form.cleaned_data["name"], Role(form.cleaned_data["role"])
        link = invite(name, role, request.user.get_username(), timezone.now())
        return _show_link(request, link, "Invite a User")
    status = 422 if request.method == "POST" else 200
    context = {"form": form, "hours": VALID_HOURS}
    return render_dialog(request, "account/_invite.html", "Invite a User", context, status)


@require_POST
def withdraw(request: HttpRequest, invitation_id: UUID) -> HttpResponse:
    """Make a link void that nobody has used."""
    invitation = get_for(request.user, Invitation.objects.filter(used_at=None), pk=invitation_id)
    invitation.delete()
    return redirect_after(request, _home(), f"The link for {invitation.name} is void.")


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def password(request: HttpRequest, user_id: int) -> HttpResponse:
    """Make a link by which the user chooses a new password, and show it this once."""
    user = get_user_for(request, user_id)
    if request.method == "POST":
        link = let_choose_password(user, request.user.get_username(), timezone.now())
        return _show_link(request, link, "New Password")
    context = {"person": user, "hours": VALID_HOURS}
    return render_dialog(request, "account/_new_password.html", "New Password", context)


@require_http_methods(["GET", "HEAD", "POST"])
def role(request: HttpRequest, user_id: int) -> HttpResponse:
    """Choose another role."""
    user = get_user_for(request, user_id)
    form = RoleForm(request.POST or None, initial={"role": role_of(user)})
    if request.method == "POST" and form.is_valid():
        chosen = Role(form.cleaned_data["role"])
        try:
            users.set_role(user, chosen)
        except LastAdministrator as error:
            return refuse(request, str(error))
        text = f"{user.username} is now {chosen.label.lower()}."
        return redirect_after(request, _home(), text)
    status = 422 if request.method == "POST" else 200
    context = {"form": form, "person": user}
    return render_dialog(request, "account/_role.html", "Change Role", context, status)


@require_POST
def disable(request: HttpRequest, user_id: int) -> HttpResponse:
    """Close the account."""
    user = get_user_for(request, user_id)
    refusal = users.refuse_disable(user, request.user)
    if refusal:
        return refuse(request, refusal)
    try:
        users.disable(user)
    except LastAdministrator as error:
        return refuse(request, str(error))
    return redirect_after(request, _home(), f"{user.username} can no longer sign in.")


@require_POST
def enable(request: HttpRequest, user_id: int) -> HttpResponse:
    """Open the account again."""
    return _act(request, user_id, users.enable, "{} can sign in again.")


@require_POST
def sign_out(request: HttpRequest, user_id: int) -> HttpResponse:
    """End all sessions of the user."""
    return _act(request, user_id, users.sign_out_everywhere, "{} is signed out everywhere.")


@require_POST
def second_factor(request: HttpRequest, user_id: int) -> HttpResponse:
    """Remove the user's second factors, so that the password alone lets them in once more."""
    text = "{} has no second factor any more, and is signed out everywhere."
    return _act(request, user_id, users.reset_second_factor, text)


def _act(
    request: HttpRequest, user_id: int, act: Callable[[User], object], toast: str
) -> HttpResponse:
    user = get_user_for(request, user_id)
    act(user)
    return redirect_after(request, _home(), toast.format(user.username))


def get_user_for(request: HttpRequest, user_id: int) -> User:
    """Return a user, or answer 404."""
    return get_for(request.user, User.objects.select_related("given_role"), pk=user_id)


def _show_link(request: HttpRequest, link: Link, title: str) -> HttpResponse:
    context = {
        "url": request.build_absolute_uri(link.path),
        "invitation": link.invitation,
        "hours": VALID_HOURS,
    }
    return render_dialog(request, "account/_link.html", title, context)


def _home() -> str:
    # Without a fragment: it would not load the page again where one is there already.
    return reverse("console:settings")
