"""Slow down guessing at passwords and codes, without locking out whoever knows them.

Wrong attempts are counted for each account at each address, and there the wait doubles up to an
hour. They are also counted for each account and for each address as a whole, against guesses that
come from many addresses or go to many accounts. These two only delay, and do not concern an address
from which the account has signed in lately: guessing elsewhere keeps nobody out.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from django.db import transaction
from django.db.models import F
from django.utils.crypto import salted_hmac

from console.accounts.models import KnownAddress, WrongAttempts

logger = logging.getLogger(__name__)

KNOWN_DAYS = 30
HOUR, DAY = 3600, 86_400


class Kind(StrEnum):
    PASSWORD = "password"
    CODE = "code"


@dataclass(frozen=True)
class Limit:
    """From the `free`-th wrong attempt on there is a wait, and each further one doubles it."""

    free: int
    first_seconds: int
    longest_seconds: int
    forgotten_seconds: int

    def wait_seconds(self, wrong: int, since_seconds: float) -> float:
        """Return how much longer to wait after so many wrong attempts, the last so long ago."""
        if wrong < self.free or since_seconds >= self.forgotten_seconds:
            return 0
        doublings = min(wrong - self.free, 30)
        wait = min(self.first_seconds << doublings, self.longest_seconds)
        return max(0, wait - since_seconds)


AT_ONE_ADDRESS = Limit(free=5, first_seconds=15, longest_seconds=HOUR, forgotten_seconds=DAY)
AT_ANY_ADDRESS = {
    Kind.PASSWORD: Limit(free=50, first_seconds=1, longest_seconds=60, forgotten_seconds=HOUR),
    # A code is short, and only who knows the password gets as far as guessing it.
    Kind.CODE: Limit(free=20, first_seconds=1, longest_seconds=900, forgotten_seconds=DAY),
}
FOR_ANY_ACCOUNT = Limit(free=50, first_seconds=1, longest_seconds=60, forgotten_seconds=HOUR)


class TooManyAttempts(Exception):
    """The attempt was not looked at; `wait_seconds` is how long nothing will be."""

    def __init__(self, wait_seconds: float) -> None:
        super().__init__(f"wait {wait_seconds:.0f} s")
        self.wait_seconds = wait_seconds


@dataclass(frozen=True)
class Attempt:
    """An attempt that counts as wrong until it turns out to be right."""

    at_address: WrongAttempts
    elsewhere: list[WrongAttempts]

    def was_right(self) -> None:
        """Forget the wrong ones before it; of the wider counts, take only this one back."""
        self.at_address.delete()
        for counted in self.elsewhere:
            rows = WrongAttempts.objects.filter(pk=counted.pk, wrong__gt=0)
            rows.update(wrong=F("wrong") - 1)


@transaction.atomic
def begin_attempt(kind: Kind, username: str, address: str, now: datetime) -> Attempt:
    """Count an attempt before it is looked at, so that many at once are not too many.

    Raises:
        TooManyAttempts: it comes too early, and is not counted.
    """
    account = account_digest(username)
    limits = {(account, address): AT_ONE_ADDRESS}
    if not _is_known(account, address, now):
        limits |= {(account, ""): AT_ANY_ADDRESS[kind], ("", address): FOR_ANY_ACCOUNT}
    counted = {key: _locked(kind, *key, now) for key in limits}
    wait_seconds = max(
        limits[key].wait_seconds(row.wrong, row.seconds_since(now)) for key, row in counted.items()
    )
    if wait_seconds > 0:
        logger.warning("sign-in delayed kind=%s address=%s", kind, address)
        raise TooManyAttempts(wait_seconds)
    for key, row in counted.items():
        is_forgotten = row.seconds_since(now) >= limits[key].forgotten_seconds
        row.wrong = 1 if is_forgotten else row.wrong + 1
        row.last_wrong_at = now
        row.save(update_fields=["wrong", "last_wrong_at"])
    WrongAttempts.objects.filter(last_wrong_at__lt=now - timedelta(seconds=DAY)).delete()
    at_address, *elsewhere = counted.values()
    return Attempt(at_address, elsewhere)


def note_signed_in(username: str, address: str, now: datetime) -> None:
    """Note that the account is at home at this address for the next `KNOWN_DAYS` days."""
    KnownAddress.objects.filter(signed_in_at__lt=now - timedelta(days=KNOWN_DAYS)).delete()
    KnownAddress.objects.update_or_create(
        account=account_digest(username), address=address, defaults={"signed_in_at": now}
    )


def unlock(username: str | None, address: str | None, now: datetime) -> None:
    """Forget wrong attempts, only of this account or address if given.

    Both together count as a sign-in of this account at this address.
    """
    counts = WrongAttempts.objects.all()
    if username is not None:
        counts = counts.filter(account=account_digest(username))
    if address is not None:
        counts = counts.filter(address=address)
    counts.delete()
    if username is not None and address is not None:
        note_signed_in(username, address, now)


def account_digest(username: str) -> str:
    """Return what stands for an account in the counts, whether it exists or not."""
    return salted_hmac("sign-in", username.strip().lower(), algorithm="sha256").hexdigest()


def _is_known(account: str, address: str, now: datetime) -> bool:
    since = now - timedelta(days=KNOWN_DAYS)
    known = KnownAddress.objects.filter(account=account, address=address)
    return known.filter(signed_in_at__gte=since).exists()


def _locked(kind: Kind, account: str, address: str, now: datetime) -> WrongAttempts:
    """Return the count for changing it; each caller takes them in the same order."""
    row, _ = WrongAttempts.objects.select_for_update().get_or_create(
        kind=kind, account=account, address=address, defaults={"last_wrong_at": now}
    )
    return row
