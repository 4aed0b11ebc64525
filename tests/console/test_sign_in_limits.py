"""Guessing is slowed down, and keeps nobody out who knows the password at another address."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.utils import timezone
from pytest_django import Settings

from console.accounts.addresses import client_address
from console.accounts.limits import (
    AT_ANY_ADDRESS,
    AT_ONE_ADDRESS,
    FOR_ANY_ACCOUNT,
    Kind,
    TooManyAttempts,
    begin_attempt,
    note_signed_in,
)
from console.accounts.models import WrongAttempts
from console.environment import env_networks
from tests.console.test_second_factor import code_for
from tests.console.test_second_factor import secret as secret  # a fixture
from tests.factories import PASSWORD

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
HERE, ELSEWHERE = "192.0.2.1", "198.51.100.7"
SignIn = Callable[..., HttpResponse]


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def pass_by(self, **time: float) -> None:
        self.now += timedelta(**time)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timezone, "now", lambda: clock.now)
    return clock


@pytest.fixture
def sign_in(client: Client, admin: User, clock: Clock) -> SignIn:
    def post(password: str = PASSWORD, address: str = HERE, login: str = "admin") -> HttpResponse:
        form = {"login": login, "password": password}
        return client.post("/account/login/", form, REMOTE_ADDR=address)

    return post


def said(response: HttpResponse) -> str:
    return response.content.decode()


def is_in(response: HttpResponse) -> bool:
    return response.status_code == 302


def guess(address: str, username: str = "admin", *, kind: Kind = Kind.PASSWORD) -> float:
    """Guess wrong once; return how long it has to wait if it comes too early."""
    try:
        begin_attempt(kind, username, address, timezone.now())
    except TooManyAttempts as error:
        return error.wait_seconds
    return 0


def test_wrong_passwords_have_to_wait_longer_and_longer(sign_in: SignIn, clock: Clock) -> None:
    for _ in range(AT_ONE_ADDRESS.free):
        assert "not correct" in said(sign_in("wrong"))

    waits = ["15 s", "30 s", "1 min", "2 min", "4 min", "8 min", "16 min", "32 min", "1 h", "1 h"]
    for wait, seconds in zip(
        waits, (15, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600), strict=True
    ):
        assert f"Try again in {wait}," in said(sign_in())
        clock.pass_by(seconds=seconds)
        assert "not correct" in said(sign_in("wrong"))


def test_who_waits_gets_in_and_begins_anew(sign_in: SignIn, clock: Clock) -> None:
    for _ in range(AT_ONE_ADDRESS.free):
        sign_in("wrong")
    clock.pass_by(seconds=14)
    assert "Try again in 1 s," in said(sign_in())
    clock.pass_by(seconds=1)
    assert is_in(sign_in())
    assert not WrongAttempts.objects.filter(address=HERE).exclude(account="").exists()


def test_an_attempt_that_comes_too_early_does_not_make_the_wait_longer(
    sign_in: SignIn, clock: Clock
) -> None:
    for _ in range(AT_ONE_ADDRESS.free + 20):
        sign_in("wrong")
    clock.pass_by(seconds=15)
    assert is_in(sign_in())


def test_guesses_at_one_address_keep_nobody_out_at_another(sign_in: SignIn) -> None:
    for _ in range(200):
        guess(ELSEWHERE)
    assert is_in(sign_in())


def test_guesses_from_many_addresses_are_slowed_but_never_for_long(
    sign_in: SignIn, clock: Clock
) -> None:
    addresses = [f"198.51.100.{number}" for number in range(1, 101)]
    assert sum(guess(address) == 0 for address in addresses) == AT_ANY_ADDRESS[Kind.PASSWORD].free
    for address in addresses:
        guess(address)
        clock.pass_by(seconds=60)
    assert 0 < guess("203.0.113.1") + guess("203.0.113.2") <= 60
    assert "Too many wrong passwords" in said(sign_in())
    clock.pass_by(seconds=60)
    assert is_in(sign_in())


def test_guesses_from_many_addresses_do_not_concern_where_the_user_is_at_home(
    sign_in: SignIn, clock: Clock, client: Client
) -> None:
    assert is_in(sign_in())
    client.post("/account/logout/")
    clock.pass_by(days=29)
    for number in range(1, 101):
        guess(f"198.51.100.{number}")
    assert is_in(sign_in())
    client.post("/account/logout/")
    assert "Too many wrong passwords" in said(sign_in(address="203.0.113.1"))


def test_an_address_is_at_home_for_a_month(db: None, clock: Clock) -> None:
    note_signed_in("admin", HERE, clock.now)
    clock.pass_by(days=31)
    for number in range(1, 101):
        guess(f"198.51.100.{number}")
    assert guess(HERE) > 0


def test_one_address_cannot_go_through_many_accounts(db: None, clock: Clock) -> None:
    counted = sum(guess(HERE, f"user-{number}") == 0 for number in range(100))
    assert counted == FOR_ANY_ACCOUNT.free
    assert 0 < guess(HERE, "another") <= 60
    assert guess(ELSEWHERE, "another") == 0


@pytest.mark.django_db(transaction=True)
def test_many_at_once_are_not_too_many(clock: Clock) -> None:
    """Attempts count before they are looked at."""

    def guess_and_leave(_number: int) -> float:
        try:
            return guess(HERE)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        waits = list(threads.map(guess_and_leave, range(AT_ONE_ADDRESS.free + 7)))
    assert sorted(waits) == [0] * AT_ONE_ADDRESS.free + [15] * 7


def test_right_attempts_do_not_count(db: None, clock: Clock) -> None:
    for number in range(200):
        begin_attempt(Kind.PASSWORD, "admin", f"10.0.0.{number}", clock.now).was_right()
    assert not WrongAttempts.objects.filter(wrong__gt=0).exists()


def test_wrong_attempts_are_forgotten_after_a_day(db: None, clock: Clock) -> None:
    for _ in range(AT_ONE_ADDRESS.free):
        guess(HERE)
    clock.pass_by(days=1)
    assert [guess(HERE) for _ in range(AT_ONE_ADDRESS.free)] == [0] * AT_ONE_ADDRESS.free
    clock.pass_by(days=1, seconds=1)
    guess(ELSEWHERE)
    assert not WrongAttempts.objects.filter(address=HERE).exists()


def test_a_clock_that_is_set_back_holds_nobody_back(db: None, clock: Clock) -> None:
    for _ in range(AT_ONE_ADDRESS.free):
        guess(HERE)
    clock.pass_by(days=-365)
    assert guess(HERE) == 0


def test_what_is_typed_as_a_user_name_is_not_kept(db: None, clock: Clock) -> None:
    guess(HERE, PASSWORD)
    assert PASSWORD not in str(list(WrongAttempts.objects.values_list()))


def test_codes_are_limited_too(client: Client, secret: str, clock: Clock) -> None:
    client.post("/account/logout/")
    client.post("/account/login/", {"login": "admin", "password": PASSWORD})
    url = "/account/second-factor/authenticate/"
    for _ in range(AT_ONE_ADDRESS.free):
        assert "Incorrect code" in said(client.post(url, {"code": "000000"}))
    refused = said(client.post(url, {"code": code_for(secret)}))
    assert "Too many wrong codes. This one was not checked. Try again in 15 s," in refused
    clock.pass_by(seconds=15)
    assert "Incorrect code" in said(client.post(url, {"code": "000000"}))


def test_codes_guessed_from_many_addresses_are_slowed(db: None, clock: Clock) -> None:
    for number in range(1, 101):
        guess(f"198.51.100.{number}", kind=Kind.CODE)
        clock.pass_by(seconds=900)
    assert 60 < guess("203.0.113.1", kind=Kind.CODE) + guess("203.0.113.2", kind=Kind.CODE) <= 900


@pytest.mark.parametrize(
    ("url", "field", "rest"),
    [
        ("/account/confirm/", "password", {}),
        ("/account/password/", "oldpassword", {"password1": "x" * 20, "password2": "x" * 20}),
    ],
)
def test_a_session_does_not_help_to_guess_the_password(
    signed_in: Client, admin: User, clock: Clock, url: str, field: str, rest: dict[str, str]
) -> None:
    for _ in range(AT_ONE_ADDRESS.free):
        assert "Too many" not in said(signed_in.post(url, {field: "wrong", **rest}))
    assert "Too many wrong passwords" in said(signed_in.post(url, {field: PASSWORD, **rest}))
    clock.pass_by(seconds=15)
    assert signed_in.post(url, {field: PASSWORD, **rest}).status_code == 302


def test_a_second_factor_cannot_be_guessed_where_it_is_confirmed(
    client: Client, secret: str, clock: Clock
) -> None:
    url = "/account/second-factor/reauthenticate/"
    for _ in range(AT_ONE_ADDRESS.free):
        assert "Incorrect code" in said(client.post(url, {"code": "000000"}))
    assert "Too many wrong codes" in said(client.post(url, {"code": code_for(secret)}))


@pytest.mark.parametrize(
    ("remote", "forwarded", "address"),
    [
        ("192.0.2.1", None, "192.0.2.1"),
        ("192.0.2.1", "203.0.113.9", "192.0.2.1"),
        ("10.0.0.5", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.5", "1.1.1.1, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.5", "1.1.1.1, 203.0.113.9, 10.0.1.7", "203.0.113.9"),
        ("10.0.0.5", "10.0.1.7", "10.0.1.7"),
        ("10.0.0.5", "a word, 10.0.1.7", "10.0.1.7"),
        ("10.0.0.5", "", "10.0.0.5"),
        ("::ffff:10.0.0.5", "203.0.113.9", "203.0.113.9"),
        ("fd00::5", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("", "203.0.113.9", "unknown"),
    ],
)
def test_only_a_trusted_proxy_is_believed(
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    remote: str,
    forwarded: str | None,
    address: str,
) -> None:
    monkeypatch.setenv("PROXIES", "10.0.0.5, 10.0.1.0/24, fd00::5")
    settings.UNDERSTUDY_TRUSTED_PROXIES = env_networks("PROXIES")
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    request = RequestFactory().get("/", REMOTE_ADDR=remote, headers=headers)
    assert client_address(request) == address


def test_behind_a_trusted_proxy_each_client_has_limits_of_its_own(
    client: Client, admin: User, clock: Clock, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROXIES", "127.0.0.1")
    settings.UNDERSTUDY_TRUSTED_PROXIES = env_networks("PROXIES")

    def post(address: str, password: str) -> HttpResponse:
        form = {"login": "admin", "password": password}
        return client.post("/account/login/", form, headers={"X-Forwarded-For": address})

    for _ in range(AT_ONE_ADDRESS.free):
        post(ELSEWHERE, "wrong")
    assert "Too many wrong passwords" in said(post(ELSEWHERE, PASSWORD))
    assert is_in(post(HERE, PASSWORD))


@pytest.mark.parametrize(
    "words", [[], ["admin"], ["--address", HERE], ["admin", "--address", HERE]]
)
def test_the_command_unlocks(
    sign_in: SignIn, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    for _ in range(AT_ONE_ADDRESS.free):
        sign_in("wrong")
    call_command("unlock_sign_in", *words)
    assert "are forgotten" in capsys.readouterr().out
    assert is_in(sign_in())


@pytest.mark.parametrize("words", [["other"], ["--address", ELSEWHERE]])
def test_the_command_leaves_the_others(sign_in: SignIn, words: list[str]) -> None:
    User.objects.create_user("other")
    for _ in range(AT_ONE_ADDRESS.free):
        sign_in("wrong")
    call_command("unlock_sign_in", *words)
    assert "Too many wrong passwords" in said(sign_in())


def test_the_command_lets_a_user_in_while_guesses_go_on(sign_in: SignIn) -> None:
    call_command("unlock_sign_in", "admin", "--address", HERE)
    for number in range(1, 101):
        guess(f"198.51.100.{number}")
    assert is_in(sign_in())


@pytest.mark.parametrize(
    ("words", "reason"),
    [(["nobody"], "no user nobody"), (["--address", "here"], "--address: 'here'")],
)
def test_the_command_says_what_is_wrong(db: None, words: list[str], reason: str) -> None:
    with pytest.raises(CommandError, match=reason):
        call_command("unlock_sign_in", *words)
