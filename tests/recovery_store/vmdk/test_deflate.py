"""Grains are deflated with the zlib wrapper, within the format's limit, by either engine."""

import os
import zlib

import pytest

from recovery_store.errors import VmdkDamaged
from recovery_store.vmdk import deflate as module
from recovery_store.vmdk.deflate import deflate, inflate
from recovery_store.vmdk.layout import COMPRESSED_GRAIN_LIMIT_BYTES, GRAIN_BYTES
from tests.recovery_store.disks import content

GRAINS = [bytes(GRAIN_BYTES), content(1), os.urandom(GRAIN_BYTES)]


@pytest.fixture(params=["isal", "zlib"])
def _engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run with ISA-L, and as on a machine that has no wheel of it."""
    if request.param == "zlib":
        monkeypatch.setattr(module, "isal_zlib", None)
        monkeypatch.setattr(module, "_ERRORS", (zlib.error,))


@pytest.mark.usefixtures("_engine")
@pytest.mark.parametrize("grain", GRAINS, ids=["zeros", "text", "noise"])
def test_a_grain_survives_deflate_and_inflate(grain: bytes) -> None:
    packed = deflate(memoryview(grain))
    assert len(packed) <= COMPRESSED_GRAIN_LIMIT_BYTES
    assert zlib.decompress(packed) == grain
    assert inflate(packed) == grain


@pytest.mark.usefixtures("_engine")
@pytest.mark.parametrize(
    "packed",
    [
        b"",
        deflate(content(1))[:-1],
        deflate(content(1)) + b"x",
        zlib.compress(bytes(GRAIN_BYTES - 1)),
        zlib.compress(bytes(GRAIN_BYTES + 1)),
        zlib.compress(bytes(100 << 20)),
        zlib.compress(content(1), wbits=-15),
        b"\x78\x9c" + bytes(100),
    ],
    ids=["empty", "cut", "surplus", "short", "long", "bomb", "raw deflate", "nonsense"],
)
def test_what_is_no_whole_grain_is_refused(packed: bytes) -> None:
    with pytest.raises(VmdkDamaged):
        inflate(packed)


@pytest.mark.usefixtures("_engine")
def test_a_wrong_checksum_is_refused() -> None:
    packed = bytearray(deflate(content(1)))
    packed[-1] ^= 1
    with pytest.raises(VmdkDamaged):
        inflate(bytes(packed))
