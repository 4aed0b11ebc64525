"""Why a connection failed, in words for people."""

import errno
import socket

import httpx
import pytest

from console.wording import reason_of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
            "it refuses connections",
        ),
        (ConnectionResetError(errno.ECONNRESET, "reset by peer"), "it closed the connection"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "there is no route to it"),
        (TimeoutError("timed out"), "it did not answer in time"),
        (socket.gaierror(-2, "Name or service not known"), "its name cannot be resolved"),
        (ValueError("anything else"), "anything else"),
    ],
)
def test_the_reason_is_in_words(error: BaseException, reason: str) -> None:
    assert reason_of(error) == reason
    assert "Errno" not in reason_of(error)


def test_a_library_s_error_tells_the_reason_by_its_cause() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(httpx.ConnectError) as raised:
        httpx.get(f"http://127.0.0.1:{port}", trust_env=False)
    assert reason_of(raised.value) == "it refuses connections"
