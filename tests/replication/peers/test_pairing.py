"""Two cores are paired on the word of an administrator of the target."""

import pytest
from django.core.management import CommandError, call_command

from console.identity import this_core
from replication.errors import (
    PairingRefused,
    PeerCertificateChanged,
    PeerRefusedAdministrator,
    PeerRefusedSecret,
    PeerUnreachable,
)
from replication.models import Pairing
from replication.peers.connection import speaking_with
from replication.peers.pairing import add_target_core
from tests.places.peer_core import ADMINISTRATOR, PeerCore
from tests.places.ports import free_port


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
    again = add_target_core("127.0.0.1", peer.port, *ADMINISTRATOR)
    assert again.pk == outgoing.pk
    assert again.sealed_secret != outgoing.sealed_secret
    with speaking_with(again) as client:
        assert client.status().name == "DR site"


def test_a_core_that_was_forgotten_is_paired_under_a_new_id(
    outgoing: Pairing, peer: PeerCore
) -> None:
    peer.forget_everything()
    again = add_target_core("127.0.0.1", peer.port, *ADMINISTRATOR)
    assert Pairing.objects.get() == again
    with speaking_with(again) as client:
        assert client.status().name == "DR site"


def test_a_wrong_password_is_refused_and_nothing_is_kept(db: None, peer: PeerCore) -> None:
    with pytest.raises(PeerRefusedAdministrator, match="DR site has no administrator"):
        add_target_core("127.0.0.1", peer.port, ADMINISTRATOR[0], "wrong")
    assert not Pairing.objects.exists()
    assert not peer.rows("SELECT id FROM replication_pairing")


def test_another_fingerprint_than_the_confirmed_one_is_refused(db: None, peer: PeerCore) -> None:
    with pytest.raises(PairingRefused, match="fingerprint"):
        add_target_core("127.0.0.1", peer.port, *ADMINISTRATOR, fingerprint="00" * 32)


def test_nobody_at_the_address_is_said_with_the_address(db: None) -> None:
    port = free_port()
    with pytest.raises(PeerUnreachable, match=f"127.0.0.1:{port}"):
        add_target_core("127.0.0.1", port, *ADMINISTRATOR)


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
    db: None, peer: PeerCore, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["add_target_core", "--host", "127.0.0.1", "--port", str(peer.port)]
    words += ["--username", ADMINISTRATOR[0], "--password", ADMINISTRATOR[1]]
    call_command(*words, "--fingerprint", peer.fingerprint)
    assert "Paired with DR site" in capsys.readouterr().out
    call_command(*words)
    assert "Already paired with DR site" in capsys.readouterr().out


def test_the_command_fails_with_the_reason(db: None, peer: PeerCore) -> None:
    with pytest.raises(CommandError, match="REPLICATION-PEER-ADMINISTRATOR"):
        call_command(
            *("add_target_core", "--host", "127.0.0.1", "--port", str(peer.port)),
            *("--username", ADMINISTRATOR[0], "--password", "wrong"),
        )
