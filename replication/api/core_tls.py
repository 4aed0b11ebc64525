"""TLS of the core interface: the core's certificate, and whose certificates callers may show.

Other cores show none; their secret says who they are. The agent of a protected machine shows the
one that was pinned when the machine was paired. Any other ends the handshake.
"""

import logging
import ssl
import threading
from contextlib import suppress

from django.db import DatabaseError, close_old_connections

from agent.tls import agent_context
from console.identity import this_core
from protected_machines.models import Machine

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 5.0


class CoreTls:
    """Keeps `context` up to date in a thread of its own."""

    def __init__(self) -> None:
        self._pems: frozenset[str] = frozenset()
        self.context = self._make()

    def start(self) -> None:
        """Begin to look for new machines."""
        threading.Thread(target=self._run, name="core-tls", daemon=True).start()

    def refresh(self) -> None:
        """Make a new context if there are other machines than before."""
        found = Machine.objects.exclude(agent_certificate_pem="")
        pems = frozenset(found.values_list("agent_certificate_pem", flat=True))
        if pems != self._pems:
            self._pems = pems
            self.context = self._make()

    def _make(self) -> ssl.SSLContext:
        core = this_core()
        context = agent_context(core.certificate_path, core.key_path, ())
        for pem in self._pems:
            # One that another core sent wrongly must not keep the others out.
            with suppress(ssl.SSLError, ValueError):
                context.load_verify_locations(cadata=pem)
        return context

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            try:
                self.refresh()
            except DatabaseError as error:
                logger.warning("machines' certificates not read error=%s", error)
            finally:
                close_old_connections()
            pause.wait(REFRESH_SECONDS)
