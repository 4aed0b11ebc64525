"""What the audit log holds of accounts: who signed in and out, and who tried in vain."""

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.http import HttpRequest

from console.accounts.addresses import client_address
from console.accounts.models import Invitation
from console.audit.acts import ObjectKind, register_acts, register_objects
from console.audit.choices import ActorKind, Outcome
from console.audit.door import Actor, come_in
from console.audit.log import record

_SIGN_IN = "sign-in"
_WRONG = "sign-in-wrong"


def register() -> None:
    """Give the acts their titles, and name what they are about."""
    register_acts(
        {
            _SIGN_IN: "Sign in",
            f"{_WRONG}:password": "Give a wrong password",
            f"{_WRONG}:code": "Give a wrong code",
            "account_logout": "Sign out",
            "account_reauthenticate": "Confirm who one is",
            "account_change_password": "Change one's password",
            "account_invitation": "Choose a password by a link",
            "users:invite": "Invite a user",
            "users:withdraw": "Withdraw a link",
            "users:role": "Change a role",
            "users:password": "Make a link for a new password",
            "users:disable": "Disable a user",
            "users:enable": "Enable a user",
            "users:sign-out": "Sign a user out everywhere",
            "users:second-factor": "Reset a second factor",
            "manage.py:invite": "Invite a user, from the shell",
            "mfa_reauthenticate": "Confirm who one is, by a code",
            "mfa_activate_totp": "Set up a second factor",
            "mfa_add_webauthn": "Add a passkey",
            "mfa_edit_webauthn": "Rename a passkey",
            "mfa_remove_webauthn": "Remove a passkey",
            "mfa_reauthenticate_webauthn": "Confirm who one is, by a passkey",
            "mfa_deactivate_totp": "Remove a second factor",
            "mfa_generate_recovery_codes": "Make new recovery codes",
            "manage.py:ensure_admin": "Make sure of an administrator, from the shell",
            "manage.py:unlock_sign_in": "Forget wrong passwords and codes, from the shell",
        }
    )
    register_objects(
        {
            "user_id": ObjectKind("user", get_user_model(), "username"),
            "invitation_id": ObjectKind("invitation", Invitation, "name"),
        }
    )


def record_sign_in(request: HttpRequest, user: AbstractBaseUser) -> None:
    """Record that a user has given all that is asked for."""
    name = user.get_username()
    with come_in(Actor(ActorKind.PERSON, name, str(user.pk), client_address(request))):
        record(_SIGN_IN, f"{name} signed in.")


def record_wrong(kind: str, request: HttpRequest, username: str) -> None:
    """Record a wrong password or code; the name only of an account that exists.

    What is typed as a name may be a password.
    """
    users = get_user_model()._default_manager.filter(username=username)
    user = users.first()
    name = user.get_username() if user else "an unknown account"
    actor = Actor(ActorKind.PERSON, name, str(user.pk) if user else "", client_address(request))
    with come_in(actor):
        record(f"{_WRONG}:{kind}", f"Wrong {kind} for {name}.", outcome=Outcome.REFUSED)
