"""Ways in which a file may be broken: by bytes, and by the structure of JSON, safetensors headers, YAML and tables.

Each takes a seeded generator and a file's content, and gives another content; the same seed gives the same.
"""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

import yaml

Mutator = Callable[[Random, bytes], bytes]

# What stands in a file's place when a download, a copy or an editor went wrong.
IN_ITS_PLACE = (
    b"",
    b"\n",
    b"\0" * 64,
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n",
    b"<!DOCTYPE html><html><title>429 Too Many Requests</title></html>",
    b"PK\x03\x04\x14\x00\x08\x08",
    b"\x80\x02}q\x00.",
    b"\xff\xfe{\x00}\x00",
    b'{"error": "Repository not found"}',
    b"[]",
    b"null",
)
# Values that a field may be given in place of its own.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**63, 10**30, -(10**30), 0.5, -0.0, 1e308, float("nan"), float("inf"),
    "", " ", "x", "0", "-1", "null", "../..", "/", "a\nb", "\0", "é" * 50, "x" * 5000, "\ud800", [], {}, [[]], [None],
    {"": None}, {"x": []}, [1, 2, 3], ["x"], [[[[[[]]]]]],
)  # fmt: skip
SIGNS = b"{}[]\":,'&*!|>%@`#-?\t\n\r \0\x7f\x80\xc3\xff\xef\xbb\xbf0123456789eE.+-abN"
DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "F4", "U64", "C64", "X", "f32", None)


# -- bytes


def any_bytes(random: Random, content: bytes, head: int | None = None) -> bytes:
    """A few bytes changed, put in, taken out, doubled or moved, in the first `head` bytes alone, or the file cut."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        end = min(len(data), head or len(data))
        if not end:
            return random.choice(IN_ITS_PLACE)
        start = random.randrange(end)
        stop = min(end, start + random.choice((1, 1, 2, 8, 40)))
        way = random.randrange(8)
        if way == 0:
            data[start] ^= 1 << random.randrange(8)
        elif way == 1:
            data[start] = random.choice(SIGNS)
        elif way == 2:
            data[start:start] = bytes(random.choice(SIGNS) for _ in range(random.choice((1, 2, 9))))
        elif way == 3:
            del data[start:stop]
        elif way == 4:
            data[start:start] = data[start:stop]
        elif way == 5:
            data[start:stop] = random.randbytes(stop - start)
        elif way == 6:
            other = random.randrange(end)
            data[start:stop], data[other : other + 1] = data[other : other + stop - start], data[start:stop][:1]
        elif random.random() < 0.3:
            del data[start:]
    if random.random() < 0.03:
        return random.choice(IN_ITS_PLACE)
    return b"\xef\xbb\xbf" + bytes(data) if random.random() < 0.03 else bytes(data)


# -- JSON


def json_bytes(random: Random, content: bytes) -> bytes:
    """The bytes of a JSON file, or its structure."""
    return any_bytes(random, content) if random.random() < 0.4 else json_structure(random, content)


def json_structure(random: Random, content: bytes) -> bytes:
    found = json.loads(content)
    for _ in range(random.choice((1, 1, 2, 3))):
        found = structure(random, found)
    text = json.dumps(found)
    if random.random() < 0.05:
        text = text.replace("{", '{"model_type": "x", ', 1)
    if random.random() < 0.03:
        text = "[" * 100_000 + text
    return text.encode("utf-8", "surrogatepass")


def structure(random: Random, value: Any) -> Any:
    """The same structure with one value, key or item other than it was, somewhere in it."""
    value = copy.deepcopy(value)
    places = list(_places(value))
    if not places or random.random() < 0.02:
        return random.choice(VALUES)
    holder, key = random.choice(places)
    way = random.randrange(6)
    if way <= 2:
        holder[key] = random.choice(VALUES)
    elif way == 3:
        del holder[key]
    elif way == 4:
        other, one = random.choice(places)
        holder[key] = copy.deepcopy(other.get(one) if isinstance(other, dict) else other[one % max(1, len(other))])
    elif isinstance(holder, dict):
        holder[f"{key}{random.choice(('', 's', '.', '_', ' '))}"] = holder.pop(key)
    else:
        holder.insert(random.randrange(len(holder) + 1), random.choice(VALUES))
    return value


def _places(value: Any) -> Any:
    """Every key of a mapping and every position of a list, with what holds it."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


# -- safetensors


def header_bytes(random: Random, content: bytes) -> bytes:
    """The bytes of a safetensors file, most of them of its header."""
    length = struct.unpack("<Q", content[:8])[0]
    if random.random() < 0.1:
        size = random.choice((0, 1, length - 1, length + 1, 8 * length, 10**6, 10**8 - 1, 2**31, 2**63, 2**64 - 1))
        return struct.pack("<Q", size) + content[8:]
    return any_bytes(random, content, random.choice((8, 8 + length, 8 + length, None)))


def header_structure(random: Random, content: bytes) -> bytes:
    """Names, types, shapes, places and metadata of a safetensors header."""
    length = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    for _ in range(random.choice((1, 1, 2))):
        header = _header(random, header)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    text += b" " * random.choice((-len(text) % 8, 0, 3))
    return struct.pack("<Q", len(text)) + text + data[: random.choice((len(data), len(data), len(data) // 2))]


def _header(random: Random, header: Any) -> Any:
    names = [name for name in header if name != "__metadata__"] if isinstance(header, dict) else []
    if not names or random.random() < 0.15:
        return structure(random, header)
    name, other = random.choice(names), random.choice(names)
    entry = header[name]
    if not isinstance(entry, dict) or not {"shape", "data_offsets"} <= set(entry):
        return structure(random, header)
    way = random.randrange(9)
    if way == 0:
        entry["dtype"] = random.choice(DTYPES)
    elif way == 1:
        entry["shape"] = random.choice(([], [0], [1], [2**40], [2**31, 2**31], [-1], [1.5], ["1"], None, [[1]]))
    elif way == 2:
        entry["shape"] = list(reversed(entry["shape"])) if isinstance(entry["shape"], list) else [1]
    elif way == 3:
        entry["data_offsets"] = random.choice(
            ([0, 0], [0, 2**62], [2**63, 2**64], [8, 4], [-8, 8], [0], None, ["0", 1])
        )
    elif way == 4:
        header[name], header[other] = header[other], header[name]
    elif way == 5:
        header[other] = copy.deepcopy(entry)
    elif way == 6:
        del header[name]
    elif way == 7:
        prefix = random.choice(("module.", "_orig_mod.", "model.", "x", ".", "", "model.layers.9.", "..", "\0"))
        header[random.choice((f"{prefix}{name}", f"{name}{prefix}", name.upper()))] = header.pop(name)
    else:
        header["__metadata__"] = random.choice((None, 7, [], {"format": 7}, {"format": "tf"}, {"body_prefix": "x"}, {}))
    return header


# -- YAML and tables


def yaml_bytes(random: Random, content: bytes) -> bytes:
    """The bytes of a YAML file, its lines, or its structure."""
    way = random.random()
    if way < 0.3:
        return any_bytes(random, content)
    if way < 0.5:
        return lines(random, content)
    found = yaml.safe_load(content)
    for _ in range(random.choice((1, 1, 2, 3))):
        found = structure(random, found)
    return yaml.safe_dump(found, sort_keys=False, allow_unicode=random.random() < 0.5).encode("utf-8", "replace")


def lines(random: Random, content: bytes) -> bytes:
    """Lines taken out, doubled, changed for one another, put in deeper, or cut."""
    found = content.split(b"\n")
    for _ in range(random.choice((1, 1, 2, 5))):
        at, other = random.randrange(len(found)), random.randrange(len(found))
        way = random.randrange(6)
        if way == 0 and len(found) > 1:
            del found[at]
        elif way == 1:
            found.insert(at, found[other % len(found)])
        elif way == 2:
            found[at], found[other] = found[other], found[at]
        elif way == 3:
            found[at] = b" " * random.choice((1, 2, 8)) + found[at]
        elif way == 4:
            found[at] = found[at].lstrip()
        else:
            found[at] = found[at][: random.randrange(len(found[at]) + 1)]
    return b"\n".join(found)


def table_bytes(random: Random, content: bytes) -> bytes:
    """The bytes of a table, its lines, or its signs of quotation and division."""
    way = random.random()
    if way < 0.4:
        return any_bytes(random, content)
    if way < 0.8:
        return lines(random, content)
    old, new = random.choice(
        ((b",", b";"), (b",", b"\t"), (b'"', b"'"), (b'"', b""), (b"\n", b"\r\n"), (b"\n", b"\r"), (b"\n", b"\n\n"),
         (b"label", b"Label"), (b"label", b"sentence"), (b"0", b""), (b"1", b"1.0"), (b"1", b"yes"), (b"1", b"9" * 30),
         (b"w", b"\xe9"), (b"w", b"\0"), (b" ", b"\xe2\x80\xa8"), (b"0", b"null"), (b"0", b"NaN"), (b"{", b"[{"))
    )  # fmt: skip
    return content.replace(old, new, random.choice((-1, 1, 3)))


def json_lines(random: Random, content: bytes) -> bytes:
    """Bytes and lines of a file of JSON lines, or the structure of one line."""
    if random.random() < 0.5:
        return table_bytes(random, content)
    found = content.split(b"\n")
    at = random.randrange(len(found))
    if not found[at].strip():
        return lines(random, content)
    found[at] = json.dumps(structure(random, json.loads(found[at]))).encode("utf-8", "surrogatepass")
    return b"\n".join(found)
