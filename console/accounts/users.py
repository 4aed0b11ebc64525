"""Make users and change them: the rules that keep an administrator on every core."""

from django.contrib.auth.models import User

from console.accounts.models import GivenRole
from console.accounts.roles import Role


def make_user(username: str, role: Role) -> User:
    """Make a user who has no password yet."""
    user = User(username=username)
    user.set_unusable_password()
    user.save(force_insert=True)
    set_role(user, role)
    return user


def set_role(user: User, role: Role) -> None:
    """Give the user a role; an administrator is a superuser of Django's."""
    user.is_staff = user.is_superuser = role == Role.ADMINISTRATOR
    user.save(update_fields=["is_staff", "is_superuser"])
    GivenRole.objects.update_or_create(user=user, defaults={"role": role})
