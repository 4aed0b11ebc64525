"""One-time links: by them people choose their own name and password, and nobody else knows it.

Only a digest of what a link contains is stored.
"""

import hashlib
import logging
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.urls import reverse

from console.accounts.limits import unlock
from console.accounts.models import Invitation
from console.accounts.roles import Role
from console.accounts.users import set_role, sign_out_everywhere
from console.audit.log import record

logger = logging.getLogger(__name__)

VALID_HOURS = 72
_TOKEN_BYTES = 32


@dataclass(frozen=True)
class Link:
    """A link that was just made; its path is shown once."""

    invitation: Invitation
    path: str

    @property
    def url(self) -> str:
        """The whole address, for commands; pages know better under which name they are reached."""
        base: str = settings.UNDERSTUDY_CONSOLE_URL or "http://<address of the console>"
        return f"{base.rstrip('/')}{self.path}"


@transaction.atomic
def invite(name: str, role: Role, made_by: str, now: datetime) -> Link:
    """Make a link by which someone new becomes a user with this role."""
    record("users:invite", f"{name} was invited as {role.label.lower()}.")
    return _make_link(Invitation(name=name, role=role, made_by=made_by), now)


@transaction.atomic
def let_choose_password(user: User, made_by: str, now: datetime) -> Link:
    """Make a link by which a user chooses a new password; links made before become void."""
    record("users:password", f"A link was made by which {user.username} chooses a password.")
    Invitation.objects.filter(user=user, used_at=None).delete()
    return _make_link(Invitation(name=user.username, user=user, made_by=made_by), now)


def find_open(token: str, now: datetime) -> Invitation | None:
    """Return the invitation that the token opens; None if it is unknown, used or expired."""
    return Invitation.objects.open(now).filter(digest=_digest_of(token)).first()


@transaction.atomic
def accept(invitation: Invitation, username: str, password: str, now: datetime) -> User | None:
    """Make the user, or set the password of the one it is for; None if someone was faster."""
    if not Invitation.objects.open(now).filter(pk=invitation.pk).update(used_at=now):
        return None
    user = invitation.user or User(username=username)
    user.set_password(password)
    user.save()
    if invitation.user is None:
        set_role(user, Role(invitation.role))
        Invitation.objects.filter(pk=invitation.pk).update(user=user)
    else:
        sign_out_everywhere(user)
        unlock(user.username, None, now)
    record("account_invitation", f"{user.username} chose a password by a link.")
    logger.info("invitation accepted invitation=%s user=%s", invitation.pk, user.pk)
    return user


def _make_link(invitation: Invitation, now: datetime) -> Link:
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    invitation.digest = _digest_of(token)
    invitation.made_at, invitation.expires_at = now, now + timedelta(hours=VALID_HOURS)
    invitation.save(force_insert=True)
    return Link(invitation, reverse("account_invitation", args=[token]))


def _digest_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
