"""Sign-in forms of django-allauth, with labels instead of placeholders."""

from typing import Any

from allauth.account.forms import ChangePasswordForm, LoginForm, ReauthenticateForm
from allauth.core import context
from allauth.mfa.base.forms import AuthenticateForm
from allauth.mfa.base.forms import ReauthenticateForm as MfaReauthenticateForm
from allauth.mfa.totp.forms import ActivateTOTPForm
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.forms import Form

from console.accounts.adapter import limited_attempt
from console.accounts.audited import record_wrong
from console.accounts.limits import Kind


def _plain(form: Form, **labels: str) -> None:
    for field in form.fields.values():
        field.widget.attrs.pop("placeholder", None)
    for name, label in labels.items():
        form.fields[name].label = label


class SignInForm(LoginForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _plain(self)
        self.fields["password"].help_text = ""


class PasswordForm(ChangePasswordForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _plain(
            self,
            oldpassword="Current password",
            password1="New password",
            password2="Repeat new password",
        )
        self.fields["password1"].help_text = "At least 12 characters. Several words work well."

    def clean_oldpassword(self) -> str:
        attempt = limited_attempt(Kind.PASSWORD, context.request, self.user.get_username())
        try:
            password: str = super().clean_oldpassword()
        except ValidationError:
            record_wrong(Kind.PASSWORD, context.request, self.user.get_username())
            raise
        attempt.was_right()
        return password


class ConfirmForm(ReauthenticateForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _plain(self)


class _LimitedCode:
    """Mixed into a form that asks for a code of the second factor."""

    user: AbstractBaseUser

    def clean_code(self) -> str:
        attempt = limited_attempt(Kind.CODE, context.request, self.user.get_username())
        try:
            code: str = super().clean_code()  # type: ignore[misc]
        except ValidationError:
            record_wrong(Kind.CODE, context.request, self.user.get_username())
            raise
        attempt.was_right()
        return code


class CodeForm(_LimitedCode, AuthenticateForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _plain(self, code="Code")


class ConfirmCodeForm(_LimitedCode, MfaReauthenticateForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _plain(self, code="Code")


class ActivateForm(ActivateTOTPForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _plain(self, code="Code")
