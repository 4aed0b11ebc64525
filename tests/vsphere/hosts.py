"""A host that does with an upload what the simulator would never do."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from lab.vcsim.process import write_certificate
from vsphere import DiskUpload
from vsphere.tls import authority_context
from vsphere.upload import Sender


class Host:
    """Takes one connection, and answers it as it is told to."""

    def __init__(self, folder: Path) -> None:
        self.certificate, key = write_certificate(folder)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

    def sender(self, upload: DiskUpload) -> Sender:
        """Return what sends a disk to this host."""
        url = f"https://127.0.0.1:{self.port}/nfc/lease/disk-0.vmdk"
        return Sender(url, authority_context(self.certificate), upload)

    def close(self) -> None:
        """Take no connection from now on."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes whoever waits for one
        self._listener.close()

    @contextlib.contextmanager
    def answering(self, answer: Callable[[ssl.SSLSocket], None]) -> Iterator[None]:
        """Serve one connection with `answer`, which is over when it returns."""
        thread = threading.Thread(target=self._serve, args=[answer], daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.close()
            thread.join(60)

    def _serve(self, answer: Callable[[ssl.SSLSocket], None]) -> None:
        with contextlib.suppress(OSError):
            plain, _ = self._listener.accept()
            with plain, self._context.wrap_socket(plain, server_side=True) as connection:
                answer(connection)


def take(connection: ssl.SSLSocket, length_bytes: int) -> None:
    """Read an upload's head and `length_bytes` of its body."""
    said = b""
    while b"\r\n\r\n" not in said:
        said += connection.recv(65536)
    taken = len(said.partition(b"\r\n\r\n")[2])
    while taken < length_bytes:
        taken += len(connection.recv(65536))
