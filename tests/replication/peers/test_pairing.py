"""Two cores are paired by a one-time code of the one that is dialled. A real one answers."""

import io
import socket
import ssl
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from django.core.management import CommandError, call_command

from console.identity import this_core
from replication.errors import (
    PairingCodeRefused,
    PairingRefused,
    PeerCertificateChanged,
    PeerRefusedSecret,
    PeerUnreachable,
)
from replication.models import Pairing
from replication.peers import wire
from replication.peers.client import PeerClient
from replication.peers.connection import speaking_with
from replication.peers.pairing import add_target_core
from tests.places.certificates import dated_certificate
from tests.places.peer_core import WRONG_CODE, PeerCore
from tests.places.ports import free_port
from tests.replication.messages import example
from tests.replication.proving import pairing_request


def ask(peer: PeerCore, code: str, **changes: Any) -> wire.PairingAnswer:
    """Ask the peer to pair, with no row of this core involved."""
    listener_pem = peer.certificate_pem
    with PeerClient("127.0.0.1", peer.port, listener_pem) as client:
        challenge = client.pairing_challenge()
        return client.pair(pairing_request(code, challenge, listener_pem, **changes))


@contextmanager
def in_the_middle(peer: PeerCore, identity: tuple[Path, Path]) -> Iterator[int]:
    """Pass on what is said between a caller and the peer, over TLS to either side."""
    inwards = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inwards.load_cert_chain(*identity)
    outwards = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    outwards.check_hostname, outwards.verify_mode = False, ssl.CERT_NONE

    def pass_on(source: ssl.SSLSocket, sink: ssl.SSLSocket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve_one, args=(listener.accept()[0],)).start()

    def serve_one(connection: socket.socket) -> None:
        with (
            suppress(OSError),
            inwards.wrap_socket(connection, server_side=True) as caller,
            outwards.wrap_socket(socket.create_connection(("127.0.0.1", peer.port))) as far,
        ):
            threading.Thread(target=pass_on, args=(far, caller), daemon=True).start()
            pass_on(caller, far)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def test_both_cores_know_each_other_by_the_same_id(outgoing: Pairing, peer: PeerCore) -> None:
    (row,) = peer.rows("SELECT id, direction, peer_name, peer_core_id FROM replication_pairing")
    core = this_core()
    assert row == (outgoing.pk.hex, "incoming", core.name, core.id.replace("-", ""))
    assert outgoing.peer_name == "DR site"
    assert outgoing.is_reachable


def test_the_secrets_are_not_kept_in_plain(outgoing: Pairing, peer: PeerCore) -> None:
    (row,) = peer.rows("SELECT sealed_secret, peer_secret_digest FROM replication_pairing")
    assert outgoing.sealed_secret not in row
    assert outgoing.peer_secret_digest not in row
    assert len({*row, outgoing.sealed_secret, outgoing.peer_secret_digest}) == 4


def test_pairing_again_renews_it_and_keeps_the_id(outgoing: Pairing, peer: PeerCore) -> None:
    again = add_target_core("127.0.0.1", peer.port, peer.pairing_code)
    assert again.pk == outgoing.pk
    assert again.sealed_secret != outgoing.sealed_secret
    with speaking_with(again) as client:
        assert client.status().name == "DR site"


def test_a_core_that_was_forgotten_is_paired_under_a_new_id(
    outgoing: Pairing, peer: PeerCore
) -> None:
    peer.forget_everything()
    again = add_target_core("127.0.0.1", peer.port, peer.pairing_code)
    assert Pairing.objects.get() == again
    with speaking_with(again) as client:
        assert client.status().name == "DR site"


def test_a_wrong_code_is_refused_and_counted_and_nothing_is_kept(db: None, peer: PeerCore) -> None:
    code = peer.pairing_code
    with pytest.raises(PairingCodeRefused, match="does not accept this pairing code"):
        add_target_core("127.0.0.1", peer.port, WRONG_CODE)
    assert not Pairing.objects.exists()
    assert peer.rows("SELECT wrong_tries, used_by FROM replication_pairingcode") == [(1, "")]
    assert not peer.rows("SELECT id FROM replication_pairing")
    assert add_target_core("127.0.0.1", peer.port, code.lower().replace("-", " ")).is_reachable
    ((tries, by),) = peer.rows("SELECT wrong_tries, used_by_name FROM replication_pairingcode")
    assert (tries, by) == (1, this_core().name)


def test_a_code_that_could_be_searched_is_not_even_tried(db: None, peer: PeerCore) -> None:
    peer.pairing_code  # noqa: B018
    with pytest.raises(PairingCodeRefused, match="16 letters and digits"):
        add_target_core("127.0.0.1", peer.port, "ABCD-EFGH-JKLM-NP")
    assert peer.rows("SELECT wrong_tries FROM replication_pairingcode") == [(0,)]


def test_no_number_of_simultaneous_guesses_exceeds_the_limit(db: None, peer: PeerCore) -> None:
    code = peer.pairing_code
    with ThreadPoolExecutor(12) as threads:
        guesses = [threads.submit(ask, peer, WRONG_CODE) for _ in range(12)]
    for guess in guesses:
        with pytest.raises(PairingCodeRefused):
            guess.result()
    assert peer.rows("SELECT wrong_tries FROM replication_pairingcode") == [(5,)]
    with pytest.raises(PairingCodeRefused):
        add_target_core("127.0.0.1", peer.port, code)


def test_a_core_that_did_not_get_the_answer_asks_again(db: None, peer: PeerCore) -> None:
    code = peer.pairing_code
    lost = add_target_core("127.0.0.1", peer.port, code)
    Pairing.objects.all().delete()
    again = add_target_core("127.0.0.1", peer.port, code)
    assert again.pk == lost.pk
    assert len(peer.rows("SELECT id FROM replication_pairing")) == 1
    with speaking_with(again) as client:
        assert client.status().name == "DR site"


def test_a_core_that_asks_twice_at_once_is_paired_once(db: None, peer: PeerCore) -> None:
    code = peer.pairing_code
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda _: ask(peer, code), range(2)))
    first, second = (msgspec.structs.replace(answer, proof="0" * 64) for answer in answers)
    assert first == second
    assert peer.rows("SELECT id FROM replication_pairing") == [(first.pairing_id.hex,)]
    assert peer.rows("SELECT wrong_tries FROM replication_pairingcode") == [(0,)]


def test_another_core_with_a_code_that_was_used_is_refused(
    db: None, peer: PeerCore, tmp_path: Path
) -> None:
    code = peer.pairing_code
    pairing = add_target_core("127.0.0.1", peer.port, code)
    other, _ = dated_certificate(tmp_path, "other", timedelta(0))
    for changes in ({"certificate_pem": other.read_text()}, {"core_id": uuid.uuid4()}):
        with pytest.raises(PairingCodeRefused):
            ask(peer, code, **changes)
    assert peer.rows("SELECT id FROM replication_pairing") == [(pairing.pk.hex,)]


def test_a_party_in_the_middle_pairs_with_nobody(db: None, peer: PeerCore, tmp_path: Path) -> None:
    """It has a certificate of its own, and passes on whatever the two cores say."""
    code = peer.pairing_code
    identity = dated_certificate(tmp_path, "middle", timedelta(0))
    with in_the_middle(peer, identity) as port, pytest.raises(PairingCodeRefused):
        add_target_core("127.0.0.1", port, code)
    assert not Pairing.objects.exists()
    assert not peer.rows("SELECT id FROM replication_pairing")
    assert peer.rows("SELECT wrong_tries, used_by FROM replication_pairingcode") == [(1, "")]


def test_a_core_that_does_not_prove_the_code_is_not_paired(
    db: None, peer: PeerCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [example(wire.PairingAnswer), example(wire.PairingChallenge)]
    monkeypatch.setattr(
        httpx.HTTPTransport,
        "handle_request",
        lambda *_: httpx.Response(200, json=said.pop()),
    )
    with pytest.raises(PairingCodeRefused, match="does not know the code"):
        add_target_core("127.0.0.1", peer.port, WRONG_CODE)
    assert not said
    assert not Pairing.objects.exists()


def test_another_fingerprint_than_the_confirmed_one_is_refused(db: None, peer: PeerCore) -> None:
    with pytest.raises(PairingRefused, match="fingerprint"):
        add_target_core("127.0.0.1", peer.port, peer.pairing_code, "00" * 32)


def test_nobody_at_the_address_is_said_with_the_address(db: None) -> None:
    port = free_port()
    with pytest.raises(PeerUnreachable, match=f"127.0.0.1:{port}"):
        add_target_core("127.0.0.1", port, WRONG_CODE)


def test_a_wrong_secret_shows_as_an_authentication_error(outgoing: Pairing, peer: PeerCore) -> None:
    peer.rows("UPDATE replication_pairing SET peer_secret_digest = ?", "0" * 64)
    with pytest.raises(PeerRefusedSecret), speaking_with(outgoing) as client:
        client.status()
    outgoing.refresh_from_db()
    assert outgoing.connection_state == "authentication_error"
    assert "Pair the two cores again" in outgoing.connection_error


def test_another_certificate_shows_as_an_authentication_error(outgoing: Pairing) -> None:
    outgoing.peer_certificate_pem = this_core().certificate_pem
    outgoing.save(update_fields=["peer_certificate_pem"])
    with pytest.raises(PeerCertificateChanged), speaking_with(outgoing) as client:
        client.status()
    outgoing.refresh_from_db()
    assert outgoing.connection_state == "authentication_error"


def test_the_command_pairs_once_and_says_so_again(
    db: None, peer: PeerCore, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["add_target_core", "--host", "127.0.0.1", "--port", str(peer.port)]
    code_file = tmp_path / "code"
    code_file.write_text(f"{peer.pairing_code}\n")
    words += ["--code-file", str(code_file)]
    call_command(*words, "--fingerprint", peer.fingerprint)
    assert "Paired with DR site" in capsys.readouterr().out
    call_command(*words)
    assert "Already paired with DR site" in capsys.readouterr().out


def test_the_command_fails_with_the_reason(
    db: None, peer: PeerCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(WRONG_CODE))
    with pytest.raises(CommandError, match="REPLICATION-PAIRING-CODE"):
        call_command("add_target_core", "--host", "127.0.0.1", "--port", str(peer.port))


def test_the_core_that_is_called_records_who_paired(outgoing: Pairing, peer: PeerCore) -> None:
    rows = peer.rows(
        "SELECT actor_kind, actor_name, address, act, object_name FROM audit_entry "
        "WHERE act LIKE 'core-interface:%' ORDER BY number DESC LIMIT 1"
    )
    name = this_core().name
    assert rows == [("core", name, "127.0.0.1", "core-interface:pair", name)]
