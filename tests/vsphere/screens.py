"""What takes pictures of the screens of the simulator's machines, which nobody boots."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lab.vcsim.process import Vcsim
from tests.vsphere.site import World

PICTURE = b"\x89PNG\r\n\x1a\nthe rest of a picture"


@contextmanager
def showing(vcsim: Vcsim, moid: str, picture: bytes | None = PICTURE) -> Iterator[None]:
    """Show a picture whenever one is wanted; none: there is nothing to see."""
    folder = vcsim.uploads / moid
    is_over = threading.Event()

    def show() -> None:
        while not is_over.wait(0.02):
            if (folder / "screen.wanted").exists():
                if picture is not None:
                    (folder / "screen.png").write_bytes(picture)
                (folder / "screen.wanted").unlink(missing_ok=True)

    thread = threading.Thread(target=show)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def picture_of(world: World, moid: str) -> bytes:
    """Take a picture of a machine."""
    with showing(world.vcsim, moid):
        return world.session.take_screenshot(moid)
