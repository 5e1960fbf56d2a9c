"""Random damages of a .corec file: each must be a clear error or a picture.

    python benchmarks/damage.py FILE.corec [--count 10000] [--seed 1]

Half of them are sealed again, with the checksum that their bytes have, so that it is the decoder that meets them: of
these only the range-coded bytes are damaged, for a sealed header may ask for a picture of any size. Prints how often
each thing came of it, the longest time and the peak memory; ends with an exception where there was one not of ours.
"""

import argparse
import collections
import re
import resource
import time
from pathlib import Path

import numpy as np

from corec.errors import CorecError
from corec.learned.format import pack, unpack
from corec.pipeline import decompress

LONGEST = 20
"""Bytes that one damage replaces, takes out or puts in, at most."""


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    """The bytes with bits flipped, or a run of them replaced, left out, put in, or cut off."""
    kind = random.integers(5)
    at, length = int(random.integers(len(data) + 1)), int(random.integers(1, LONGEST + 1))
    if kind == 0:
        bits = np.unpackbits(np.frombuffer(data, np.uint8))
        bits[random.integers(0, len(bits), random.integers(1, 9))] ^= 1
        return np.packbits(bits).tobytes()
    if kind == 1:
        return data[:at] + random.bytes(length) + data[at + length :]
    if kind == 2:
        return data[:at] + data[at + length :]
    if kind == 3:
        return data[:at] + random.bytes(length) + data[at:]
    return data[:at]


def outcome(data: bytes) -> str:
    """What decompress makes of it."""
    try:
        decompress(data)
    except CorecError as error:
        return f"{type(error).__name__}: {re.sub('[0-9]+', 'N', str(error))}"
    return "a picture"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Random damages of a .corec file.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    data, random = options.file.read_bytes(), np.random.default_rng(options.seed)
    header, coded = unpack(data)
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    slowest = 0.0
    for index in range(options.count):
        sealed = index % 2 == 1
        changed = data
        while changed == data:
            changed = pack(header, damaged(coded, random)) if sealed else damaged(data, random)
        began = time.perf_counter()
        counts["sealed again" if sealed else "as it is", outcome(changed)] += 1
        slowest = max(slowest, time.perf_counter() - began)
    print("| damaged | outcome | times |\n|---|---|--:|")
    for (kind, what), count in sorted(counts.items(), key=lambda item: (item[0][0], -item[1])):
        print(f"| {kind} | {what} | {count} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(f"\n{options.count} damages of {len(data)} bytes; slowest {slowest:.2f} s; peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
