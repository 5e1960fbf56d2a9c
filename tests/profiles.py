"""Colour profiles, made byte by byte, for what Pillow cannot make."""

import struct

from PIL import ImageCms


def icc(space: bytes, connection: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr") -> bytes:
    """An ICC profile (version 2.4)."""
    table, data = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    head = bytes(4) + b"\x02\x40\0\0" + kind + space + connection + struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp"
    head = head.ljust(64, b"\0") + xyz(0.9642, 1, 0.8249)[8:]
    body = head.ljust(124, b"\0") + table + data
    return struct.pack(">I", len(body) + 4) + body


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * v) for v in values))


def gamma(value: float) -> bytes:
    return b"curv" + struct.pack(">IIH", 0, 1, round(256 * value))


WHITE = {b"wtpt": xyz(0.9642, 1, 0.8249)}
LINEAR_GRAY = icc(b"GRAY", b"XYZ ", WHITE | {b"kTRC": gamma(1.0)})


def rgb_profile(red: bytes = b"r", green: bytes = b"g", power: float = 2.2) -> bytes:
    """sRGB's primaries under the channels' names or exchanged."""
    primaries = [xyz(0.4361, 0.2225, 0.0139), xyz(0.3851, 0.7169, 0.0971), xyz(0.1431, 0.0606, 0.7139)]
    tags = {name + b"XYZ": value for name, value in zip((red, green, b"b"), primaries, strict=True)}
    return icc(b"RGB ", b"XYZ ", WHITE | tags | {name + b"TRC": gamma(power) for name in (b"r", b"g", b"b")})


def cmyk_profile() -> bytes:
    """Full cyan is a middle gray, paper is white, everything with black is black; corners of a 2^4 grid."""
    corners = b""
    for corner in range(16):
        cyan, black = corner >> 3 & 1, corner & 1
        corners += bytes([0 if black else 140 if cyan else 255, 128, 128])
    identity = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + bytes(range(256)) * 4 + corners + bytes(range(256)) * 3
    return icc(b"CMYK", b"Lab ", WHITE | {b"A2B0": lut}, b"prtr")


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
