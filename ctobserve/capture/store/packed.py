"""A recording that xz has compressed as a whole: its content again, as far as that is not too much."""

from __future__ import annotations

from pathlib import Path

from ctobserve.host import files

MAGIC = b"\xfd7zXZ\0"
MOST_BYTES = 128 << 20  # of the content: it is held in memory
DECODER_BYTES = 96 << 20  # what `xz -9` makes takes 65 MiB


class NotUnpacked(ValueError):
    """Bytes that are no whole file of xz, or become more than that."""


def unpacked(path: Path) -> bytes:
    """Raises NotUnpacked, and OSError where the file cannot be read. Never makes more than MOST_BYTES of it."""
    import lzma

    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=DECODER_BYTES)
    try:
        made = decoder.decompress(files.head(path, MOST_BYTES), MOST_BYTES + 1)
    except lzma.LZMAError as error:
        raise NotUnpacked(str(error)[:1].lower() + str(error)[1:]) from None
    if len(made) > MOST_BYTES:
        raise NotUnpacked(f"it becomes more than {MOST_BYTES >> 20} MiB; unpack it by xz -dc, then give it")
    if not decoder.eof:
        raise NotUnpacked("its end is missing; xz -dc makes a file of what is there, which may be read")
    return made
