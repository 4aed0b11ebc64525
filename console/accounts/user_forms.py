"""Forms about users: whom to invite, which role, and what an invited person chooses."""

from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password

from console.accounts.models import Invitation
from console.accounts.roles import Role

_ABOUT = {
    Role.HELPDESK: "Sees machines and jobs, forces snapshots, retries failed ones.",
    Role.TEST_OPERATOR: "Also exports recovery points.",
    Role.RECOVERY_ADMINISTRATOR: "As helpdesk; also fails over and back.",
    Role.ADMINISTRATOR: "May do everything.",
    Role.MANAGER: "Sees what could be recovered, nothing else.",
    Role.AUDITOR: "Sees everything but secrets, and changes nothing.",
}


class RoleForm(forms.Form):
    role = forms.ChoiceField(choices=Role.choices, widget=forms.RadioSelect)

    @property
    def described(self) -> list[tuple[str, str, str]]:
        """Every role with its name and what it may do."""
        return [(role.value, str(role.label), _ABOUT[role]) for role in Role]


class InvitationForm(RoleForm):
    name = forms.CharField(
        label="User name", max_length=150, help_text="They can still choose another one."
    )
    field_order = ["name", "role"]

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if User.objects.filter(username__iexact=name).exists():
            raise forms.ValidationError("There is already a user with this name.")
        return name


class AcceptForm(forms.Form):
    """A name, unless the link is for a user who has one, and a password, twice."""

    username = forms.CharField(label="User name", max_length=150)
    password1 = forms.CharField(
        label="Password",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="At least 12 characters. Several words work well.",
    )
    password2 = forms.CharField(
        label="Repeat password",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def __init__(self, data: Any, *, invitation: Invitation) -> None:
        super().__init__(data, initial={"username": invitation.name})
        self.invitation = invitation
        if invitation.user is not None:
            del self.fields["username"]
        else:
            self.fields["username"].widget.attrs["autocomplete"] = "username"

    def clean_username(self) -> str:
        name: str = self.cleaned_data["username"]
        User.username_validator(name)
        if User.objects.filter(username__iexact=name).exists():
            raise forms.ValidationError("There is already a user with this name.")
        return name

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        first, second = values.get("password1", ""), values.get("password2", "")
        if first and second and first != second:
            self.add_error("password2", "The two passwords differ.")
        elif first:
            name = values.get("username", self.invitation.name)
            try:
                validate_password(first, self.invitation.user or User(username=name))
            except forms.ValidationError as error:
                self.add_error("password1", error)
        return values
