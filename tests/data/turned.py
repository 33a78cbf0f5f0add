"""Videos as phones write them: a turned picture, and in the track's header how to turn it back."""

import struct
from pathlib import Path

TURNS = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
"""By degrees clockwise: a, b, c, d of the header's matrix a, b, u, c, d, v, x, y, w in 16.16 and 2.30 fixed point."""
ONE = 0x10000


def turn(path: Path, clockwise: int) -> None:
    """Have players show an mp4 turned; its pictures stay as they are."""
    content = bytearray(path.read_bytes())
    a, b, c, d = (ONE * value for value in TURNS[clockwise])
    at = content.index(b"tkhd") + 4 + 40  # version, flags, times, id, duration, reserved, layer, group, volume
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(content)
