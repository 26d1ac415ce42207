"""Files changed at random: their bytes, or the values of their JSON."""

import numpy as np

WORDS = [b"", b"\x00", b"\xff\xfe", b"\r", b"\n", b'"', b",", b";", b"\t", b"{", b"[", b"]", b"}"]
WORDS += [b"NaN", b"Infinity", b"-1e400", b"9" * 400, b"9999-01-01", b"1,234", b"1.234", b"null"]
WORDS += [b"\x1b[31m", "\u202e".encode(), b"true", b'{"a":1}', b"[1]", b"0001-01-01", b" AM", b"-0"]


def mutated(raw: bytes, random: np.random.Generator) -> bytes:
    """Returns the bytes with one to three places changed, left out, doubled or put elsewhere."""
    data = bytearray(raw)
    for _ in range(random.integers(1, 4)):
        place, length = int(random.integers(len(data) + 1)), int(random.integers(1, 20))
        kind = random.integers(6)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << int(random.integers(8))
        elif kind == 1:
            del data[place : place + length]
        elif kind == 2:
            data[place:place] = data[place : place + length]
        elif kind == 3:
            word = WORDS[random.integers(len(WORDS))]
            data[place : place + int(random.integers(0, 12))] = word
        elif kind == 4:
            data[place:place] = bytes(random.integers(0, 256, length, np.uint8))
        elif kind == 5 and random.random() < 0.2:
            del data[place:]
    return bytes(data)


ODD = [None, True, "", "x", "1,234", -1, 1e300, 10**400, 2**63, [], [1], {}, {"a": [1]}, "NaN"]
ODD += [0, -1e-9, 1e15, [[]], "\ud800", "a\0b", "/dev/zero", "x" * 5000]
ODD += ["9999-01-01", "2024-13-45", 1e-300, float("nan"), "\x1b[2J", "12/31/24", "9:30 PM"]


def restructured(value, random: np.random.Generator):
    """Returns a JSON value with one part of it put in the place of another, or an odd one."""
    parts = []

    def visit(part):
        inner = part if isinstance(part, list) else list(part) if isinstance(part, dict) else []
        for key in range(len(inner)) if isinstance(part, list) else inner:
            parts.append((part, key))
            visit(part[key])

    visit(value)
    for _ in range(random.integers(1, 4)):
        part, key = parts[random.integers(len(parts))]
        odd = ODD[random.integers(len(ODD))]
        own = part[key] if isinstance(part, list) or key in part else odd
        part[key] = [odd, [own], {"results": own}, [own, odd], {"t": own, "c": odd}][
            random.choice(5, p=[0.6, 0.1, 0.1, 0.1, 0.1])
        ]
    return value
