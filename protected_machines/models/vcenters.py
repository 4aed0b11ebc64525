"""The vCenters that machines are exported to."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import models
from django.db.models import Q
from django.utils import timezone

from console import secrets
from protected_machines.errors import PasswordUnreadable, SignInStopped

# Part of the key that encrypts stored passwords. Never change it.
_PURPOSE = "understudy stored passwords"


class VCenter(models.Model):
    """A vCenter or ESXi host that machines are exported to, and how to sign in there.

    An administrator has confirmed the thumbprint of its certificate. Nothing is sent to a server
    that presents another one.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=200, unique=True)
    host = models.CharField(max_length=253)
    port = models.PositiveIntegerField(default=443)
    username = models.CharField(max_length=200)
    password_encrypted = models.TextField(editable=False)
    thumbprint = models.CharField(max_length=200)
    # How the last test of the connection went.
    is_reachable = models.BooleanField(null=True, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True)
    check_text = models.TextField(blank=True)
    # What the vCenter said when it refused this account; while it is set, no job signs in.
    refused_text = models.TextField(blank=True)
    # VMs that jobs left behind there, as `exports.strays` last found them.
    stray_vms = models.JSONField(default=list, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["host", "port"],
                name="vcenter_address_unique",
                violation_error_message="A vCenter at this address already exists.",
            ),
            models.CheckConstraint(
                condition=Q(port__gte=1, port__lte=65535), name="vcenter_port_in_range"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def password(self) -> str:
        """The password in plain text.

        Raises:
            PasswordUnreadable: it was encrypted with another secret key.
        """
        try:
            return secrets.decrypt(self.password_encrypted, _PURPOSE)
        except secrets.SecretUnreadable as error:
            raise PasswordUnreadable(
                f"The password of {self.name} was encrypted with another secret key. "
                "Enter the password again."
            ) from error

    @password.setter
    def password(self, plain_text: str) -> None:
        self.password_encrypted = secrets.encrypt(plain_text, _PURPOSE)

    def check_may_sign_in(self) -> None:
        """Check that the account was not refused, as far as this row knows.

        Raises:
            SignInStopped: it was, and has not been changed since.
        """
        if self.refused_text:
            raise SignInStopped(
                f"{self.name} refused the account {self.username}, so that nothing signs in there "
                "until it is changed: repeated refusals could lock it. Under Settings, enter its "
                "password, or choose Test connection if the account is right."
            )

    def record_refusal(self, text: str) -> bool:
        """Save that the vCenter refused the account, unless it was changed; return whether so."""
        self.refused_text = text
        same = VCenter.objects.filter(
            pk=self.pk, username=self.username, password_encrypted=self.password_encrypted
        )
        return bool(same.update(refused_text=text))

    def record_check(self, is_reachable: bool, text: str, now: datetime | None = None) -> None:
        """Save how a test of the connection went."""
        self.is_reachable = is_reachable
        self.check_text = text
        self.checked_at = now or timezone.now()
        if is_reachable:
            self.refused_text = ""
        self.save(update_fields=["is_reachable", "check_text", "checked_at", "refused_text"])
