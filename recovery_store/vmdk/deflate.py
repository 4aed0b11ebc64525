"""Deflate and inflate one grain, with ISA-L if it is installed, or else with zlib.

The technical note says RFC 1951, but every reader expects the zlib wrapper of RFC 1950.
"""

from __future__ import annotations

import zlib

from ..errors import VmdkDamaged
from .layout import COMPRESSED_GRAIN_LIMIT_BYTES, GRAIN_BYTES

try:
    from isal import isal_zlib
except ImportError:  # a protected machine may have no wheel for its processor
    isal_zlib = None  # type: ignore[assignment]

_LEVEL = 1
_ERRORS: tuple[type[Exception], ...] = (zlib.error,)
if isal_zlib is not None:
    _ERRORS = (zlib.error, isal_zlib.error)  # type: ignore[assignment]  # its stub says "value"


def deflate(grain: bytes | memoryview) -> bytes:
    """Return the compressed grain in the zlib wrapper, never longer than the format allows."""
    if isal_zlib is not None:
        compressed: bytes = isal_zlib.compress(grain, _LEVEL)
    else:
        compressed = zlib.compress(grain, _LEVEL)
    if len(compressed) > COMPRESSED_GRAIN_LIMIT_BYTES:
        compressed = zlib.compress(grain, 0)
    return compressed


def inflate(compressed: bytes | memoryview) -> bytes:
    """Return the whole grain.

    Raises:
        VmdkDamaged: it is not a zlib stream, is truncated, has trailing bytes, or does not inflate
            to the length of a grain.
    """
    engine = (isal_zlib or zlib).decompressobj()
    try:
        grain: bytes = engine.decompress(compressed, GRAIN_BYTES + 1)
    except _ERRORS as error:
        raise VmdkDamaged(f"A grain does not inflate: {error}") from error
    if len(grain) != GRAIN_BYTES or not engine.eof or engine.unused_data:
        raise VmdkDamaged(f"A grain inflates to {len(grain)} bytes, expected {GRAIN_BYTES}")
    return grain
