"""A code of this core: what it is good for, how long, and what callers learn about it."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from console.identity import this_core
from replication.models import Pairing, PairingCode
from replication.pages.states import code_state
from replication.peers import wire
from replication.peers.pairing_codes import make_pairing_code
from tests.places.peer_core import WRONG_CODE
from tests.replication.proving import pairing_request

pytestmark = pytest.mark.django_db
CALLER_ID = uuid.uuid4()


@pytest.fixture(autouse=True)
def core_interface(settings: Settings) -> None:
    settings.ROOT_URLCONF = "replication.api.urls"
    settings.MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
    settings.APPEND_SLASH = False


def challenge() -> wire.PairingChallenge:
    return wire.PairingChallenge.from_json(Client().get("/api/v1/pair").json())


def ask(code: str, **changes: Any) -> Any:
    """Call this core's interface as another core with this certificate."""
    own_pem = this_core().certificate_pem
    said = pairing_request(code, challenge(), own_pem, **{"core_id": CALLER_ID, **changes})
    return Client().post("/api/v1/pair", said.to_json(), content_type="application/json")


def state() -> str:
    """The newest code as Settings shows it."""
    newest = PairingCode.objects.find_newest()
    assert newest is not None
    shown = code_state(newest, timezone.now())
    return f"{shown.tone}: {shown.text} ({shown.reason})"


def expire() -> None:
    PairingCode.objects.update(expires_at=timezone.now() - timedelta(seconds=1))


def test_the_right_code_pairs_once_and_says_who_made_and_who_used_it() -> None:
    code = make_pairing_code("admin")
    answer = ask(code)
    assert answer.status_code == 200
    used = PairingCode.objects.get()
    assert (used.made_by, used.used_by_name) == ("admin", "Headquarters")
    assert used.used_by.startswith(f"source {CALLER_ID} ")
    assert state().startswith("ok: Used by Headquarters")
    assert Pairing.objects.get().peer_core_id == CALLER_ID
    assert ask(code, core_id=uuid.uuid4()).status_code == 403


def test_whatever_is_wrong_the_caller_is_told_the_same() -> None:
    answers = [ask(WRONG_CODE)]
    code = make_pairing_code("admin")
    answers.append(ask(WRONG_CODE))
    newer = make_pairing_code("admin")
    answers.append(ask(code))
    assert state().startswith("warn: Open (until ")
    assert state().endswith("1 wrong try)")
    expire()
    assert state() == "off: Not used (1 wrong try)"
    answers.append(ask(newer))
    voided = make_pairing_code("admin")
    answers += [ask(WRONG_CODE) for _ in range(5)]
    assert state() == "bad: Void (5 wrong tries. Make a new one.)"
    answers.append(ask(voided))
    used = make_pairing_code("admin")
    assert ask(used).status_code == 200
    answers.append(ask(used, core_id=uuid.uuid4()))
    assert {(answer.status_code, answer.content) for answer in answers} == {
        (403, answers[0].content)
    }
    assert answers[0].json()["code"] == "REPLICATION-PAIRING-CODE"
    assert Pairing.objects.count() == 1


def test_the_challenge_does_not_tell_whether_a_code_is_open() -> None:
    without = challenge()
    assert without == challenge()
    code = make_pairing_code("admin")
    opened = challenge()
    assert opened not in (without, wire.PairingChallenge(salt=without.salt, nonce=opened.nonce))
    ask(code)
    assert challenge() == opened
    expire()
    assert challenge() == opened


def test_a_used_code_is_good_for_its_core_until_its_time_is_over() -> None:
    code = make_pairing_code("admin")
    first, again = ask(code).json(), ask(code).json()
    assert {**first, "proof": ""} == {**again, "proof": ""}
    assert ask(code, role="target").status_code == 403
    expire()
    assert ask(code).status_code == 403
    assert Pairing.objects.count() == 1


def test_wrong_tries_of_others_do_not_keep_out_the_core_that_used_the_code() -> None:
    code = make_pairing_code("admin")
    assert ask(code).status_code == 200
    for _ in range(5):
        assert ask(WRONG_CODE, core_id=uuid.uuid4()).status_code == 403
    assert PairingCode.objects.get().wrong_tries == 0
    assert ask(code).status_code == 200


def test_a_new_code_voids_the_old_one_also_for_the_core_that_used_it() -> None:
    code = make_pairing_code("admin")
    assert ask(code).status_code == 200
    make_pairing_code("admin")
    assert ask(code).status_code == 403


def test_the_code_itself_is_not_kept_and_its_key_is_sealed() -> None:
    code = make_pairing_code("admin")
    (row,) = PairingCode.objects.values()
    kept = " ".join(map(str, row.values()))
    assert code not in kept
    assert code.replace("-", "") not in kept
    from agent.proof import code_key

    assert code_key(code, bytes.fromhex(challenge().salt)).hex() not in kept


def test_a_core_with_the_id_of_this_one_is_refused_and_the_code_stays_open() -> None:
    code = make_pairing_code("admin")
    refused = ask(code, core_id=uuid.UUID(this_core().id))
    assert refused.json()["code"] == "REPLICATION-PAIRING"
    assert ask(code).status_code == 200


def test_name_and_password_of_an_administrator_pair_nobody() -> None:
    make_pairing_code("admin")
    said = pairing_request(WRONG_CODE, challenge(), this_core().certificate_pem).to_json()
    del said["proof"]
    answer = Client().post(
        *("/api/v1/pair", said),
        content_type="application/json",
        headers={"Authorization": "Basic YWRtaW46Y29ycmVjdCBob3JzZQ=="},
    )
    assert answer.json()["code"] == "REPLICATION-PEER-FAULTY"
    assert PairingCode.objects.get().wrong_tries == 0


def test_the_command_prints_a_code_that_is_valid_as_long_as_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    call_command("pairing_code", "--minutes", "3")
    code = capsys.readouterr().out.strip()
    made = PairingCode.objects.get()
    assert made.expires_at - made.made_at == timedelta(minutes=3)
    assert ask(code).status_code == 200


@pytest.mark.parametrize("minutes", ["0", "1441"])
def test_the_command_makes_no_code_that_is_valid_for_ever(minutes: str) -> None:
    with pytest.raises(CommandError, match="1 to 1440 minutes"):
        call_command("pairing_code", "--minutes", minutes)
    assert not PairingCode.objects.exists()
