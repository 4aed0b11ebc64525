"""The proof of a code binds everything that both sides see; nothing else proves it."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.proof import Exchange, Side, code_key, is_long_enough, make_code
from tests.places.quick_pairing import set_pairing_cost

KEY = hashlib.scrypt(b"ABCDEFGHJKLMNPQR", salt=b"salt", n=2**14, r=8, p=1, dklen=32)
SEEN = Exchange(b"caller", b"listener", b"nonce of the caller", b"nonce of the listener")
PARTS = ("caller_certificate", "listener_certificate", "caller_nonce", "listener_nonce")


@pytest.fixture(autouse=True)
def real_cost() -> None:
    set_pairing_cost(is_real=True)


def test_the_proof_is_what_agents_of_older_releases_expect() -> None:
    assert SEEN.proof(Side.CORE, KEY) == (
        "0dd09c880b30fdfcf7dc414367e12739401e0be317e66419a1ca363329f10848"
    )
    assert SEEN.proof(Side.AGENT, KEY) == (
        "4514093683ee13bbad6bf1e0a0f1cf9330bf5883fbd881d318823a8cde5319e4"
    )


@pytest.mark.parametrize("part", PARTS)
@given(data=st.data())
def test_a_proof_holds_for_no_other_certificate_and_no_other_nonce(
    part: str, data: st.DataObject
) -> None:
    other = replace(
        SEEN, **{part: data.draw(st.binary().filter(lambda b: b != getattr(SEEN, part)))}
    )
    assert not other.is_proof(SEEN.proof(Side.CORE, KEY), Side.CORE, KEY)


@pytest.mark.parametrize("shown_by", Side, ids=lambda side: side.name)
def test_no_side_can_return_the_proof_of_another(shown_by: Side) -> None:
    shown = SEEN.proof(shown_by, KEY)
    assert [side for side in Side if SEEN.is_proof(shown, side, KEY)] == [shown_by]


@given(cut=st.integers(0, 200))
def test_what_ends_one_nonce_does_not_begin_the_next(cut: int) -> None:
    nonces = SEEN.caller_nonce + SEEN.listener_nonce
    moved = replace(SEEN, caller_nonce=nonces[:cut], listener_nonce=nonces[cut:])
    assert moved == SEEN or not moved.is_proof(SEEN.proof(Side.CORE, KEY), Side.CORE, KEY)


@pytest.mark.parametrize("shown", ["", "0" * 64, "é", "\ud800", "x" * 10_000])
def test_what_is_no_proof_is_none(shown: str) -> None:
    assert not SEEN.is_proof(shown, Side.CORE, KEY)


@pytest.mark.parametrize(
    "code", ["abcd efgh jklm npqr", "ABCDEFGHJKLMNPQR", " abcd-efghjklm-NPQR\n"]
)
def test_case_dashes_and_spaces_make_no_other_key(code: str) -> None:
    assert code_key(code, b"salt") == KEY


@pytest.mark.parametrize(
    ("code", "salt"), [("ABCD-EFGH-JKLM-NPQS", b"salt"), ("ABCD-EFGH-JKLM-NPQR", b"tlas")]
)
def test_another_code_or_salt_makes_another_key(code: str, salt: bytes) -> None:
    assert code_key(code, salt) != KEY


def test_a_code_that_is_made_resists_a_search_and_is_never_the_same() -> None:
    codes = {make_code() for _ in range(100)}
    assert len(codes) == 100
    assert all(is_long_enough(code) for code in codes)
    assert not is_long_enough("ABCD-EFGH-JKLM-N--")
