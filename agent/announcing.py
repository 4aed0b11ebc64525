"""Announce this machine to its cores when it starts, and when its addresses have changed.

A machine that was failed over, exported or restored has an address that nobody knows. It tells its
cores where it is by a call of its own, over mutual TLS: the core has to show its pinned
certificate, and the agent shows the one that the core has pinned. A core that does not hear is
told again, with growing distance.
"""

from __future__ import annotations

import http.client
import json
import logging
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from agent.errors import AgentError
from agent.home import Home
from agent.protocol import Message
from agent.reasons import reason_of
from agent.tls import core_context

log = logging.getLogger(__name__)

ANNOUNCEMENT_PATH = "/api/v1/announcements"
MAX_ADDRESSES = 16
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 600.0
LOOK_SECONDS = 3.0
_CALL_SECONDS = 8.0
_MAX_ANSWER_BYTES = 4096
_HEARD = 200


class NotHeard(Exception):
    """A core was not reached, is another one, or did not accept the announcement."""


class Announcer:
    """Tells each core once per start, and once more when what there is to tell has changed.

    homes: where the cores are now.
    describe: what to tell; None while nothing may be done, because file systems are frozen.
    clock: seconds that never go back.
    """

    def __init__(
        self,
        certificate_path: Path,
        key_path: Path,
        homes: Callable[[], Iterable[Home]],
        describe: Callable[[], Message | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._certificate_path = certificate_path
        self._key_path = key_path
        self._homes = homes
        self._describe = describe
        self._clock = clock
        self._stopping = threading.Event()
        self._told: Message = {}
        self._heard: set[tuple[str, str]] = set()  # certificate, machine id
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._again_at = 0.0
        self._reasons: dict[Home, str] = {}

    def start(self) -> None:
        """Begin, in a thread of its own."""
        threading.Thread(target=self._run, name="announcing", daemon=True).start()

    def stop(self) -> None:
        """Tell nobody any more."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except (AgentError, OSError) as error:
                log.warning("announcing failed error=%s", error)
            self._stopping.wait(LOOK_SECONDS)

    def look(self) -> None:
        """Tell the cores that have not heard, if it is time to."""
        message = self._describe()
        if message is None:
            return
        if message != self._told:
            self._told, self._heard, self._again_at = message, set(), 0.0
            self._pause_seconds = FIRST_PAUSE_SECONDS
        homes = [home for home in self._homes() if _core_of(home) not in self._heard]
        if not homes or self._clock() < self._again_at:
            return
        for home in homes:
            if _core_of(home) not in self._heard and self._tell(home, message):
                self._heard.add(_core_of(home))
        self._again_at = self._clock() + self._pause_seconds * random.uniform(0.75, 1.25)
        self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)

    def _tell(self, home: Home, message: Message) -> bool:
        try:
            self._call(home, {**message, "machine_id": home.machine_id})
        except (NotHeard, OSError, ValueError, http.client.HTTPException) as error:
            reason = str(error) if isinstance(error, NotHeard) else reason_of(error)
            if self._reasons.get(home) != reason:  # once, not every few minutes
                self._reasons[home] = reason
                log.info("not heard host=%s port=%d reason=%s", home.host, home.port, reason)
            return False
        self._reasons.pop(home, None)
        log.info("announced host=%s port=%d", home.host, home.port)
        return True

    def _call(self, home: Home, message: Message) -> None:
        context = core_context(self._certificate_path, self._key_path)
        connection = http.client.HTTPSConnection(
            home.host, home.port, timeout=_CALL_SECONDS, context=context
        )
        try:
            connection.connect()
            shown = connection.sock.getpeercert(binary_form=True)
            if shown != ssl.PEM_cert_to_DER_cert(home.certificate_pem):
                raise NotHeard("another certificate is shown there than the core's")
            body = json.dumps(message, separators=(",", ":")).encode()
            headers = {"Content-Type": "application/json", "Connection": "close"}
            connection.request("POST", ANNOUNCEMENT_PATH, body, headers)
            answer = connection.getresponse()
            text = answer.read(_MAX_ANSWER_BYTES).decode(errors="replace")
            if answer.status != _HEARD:
                raise NotHeard(f"it answered {answer.status}: {text[:300]!r}")
        finally:
            connection.close()


def _core_of(home: Home) -> tuple[str, str]:
    return home.certificate_pem, home.machine_id
