"""Damaging a file: what bad disks, bad networks and bad people do to it."""

import json
import random
from collections.abc import Callable
from typing import Any

ABSURD = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
NAMES = (
    "../outside/model.safetensors", "/etc/passwd", "..", "", "a/../../b", "\0", "x" * 5000,
    "model.safetensors", "layers.0.mlp.gate_proj.weight", "http://localhost/x", "C:\\x",
)  # fmt: skip


def mutate(content: bytes, rng: random.Random) -> bytes:
    """`content` damaged once or a few times."""
    if _is_json(content) and rng.random() < 0.7:
        return _json(content, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content = rng.choice(BYTEWISE)(bytearray(content), rng)
    return content


def _place(content: bytearray, rng: random.Random) -> int:
    # Heads say how the rest is to be read.
    end = len(content) if rng.random() < 0.5 else min(len(content), 4096)
    return rng.randrange(max(1, end))


def _flip(content: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        place = _place(content, rng)
        if place < len(content):
            content[place] ^= 1 << rng.randrange(8)
    return bytes(content)


def _overwrite(content: bytearray, rng: random.Random) -> bytes:
    place = _place(content, rng)
    size = rng.choice((1, 4, 16, 256))
    content[place : place + size] = rng.choice((b"\0" * size, b"\xff" * size, rng.randbytes(size)))
    return bytes(content)


def _absurd(content: bytearray, rng: random.Random) -> bytes:
    """A number where one may stand, as wide as counts, sizes and offsets are."""
    width = rng.choice((4, 8))
    place = _place(content, rng) // 4 * 4
    value = rng.choice(ABSURD) % 2 ** (8 * width)
    content[place : place + width] = value.to_bytes(width, "little")
    return bytes(content)


def _truncate(content: bytearray, rng: random.Random) -> bytes:
    return bytes(content[: _place(content, rng)])


def _lengthen(content: bytearray, rng: random.Random) -> bytes:
    return bytes(content) + rng.randbytes(rng.choice((1, 8, 1000)))


def _repeat(content: bytearray, rng: random.Random) -> bytes:
    start, target = _place(content, rng), _place(content, rng)
    piece = content[start : start + rng.choice((4, 32, 512))]
    return bytes(content[:target] + piece + content[target:])


def _remove(content: bytearray, rng: random.Random) -> bytes:
    start = _place(content, rng)
    del content[start : start + rng.choice((1, 4, 32, 512))]
    return bytes(content)


BYTEWISE: tuple[Callable[[bytearray, random.Random], bytes], ...] = (
    _flip, _flip, _flip, _overwrite, _absurd, _absurd, _truncate, _lengthen, _repeat, _remove,
)  # fmt: skip


def _is_json(content: bytes) -> bool:
    try:
        return isinstance(json.loads(content), dict)
    except (ValueError, RecursionError):
        return False


def _json(content: bytes, rng: random.Random) -> bytes:
    """One value of a JSON file replaced, or a key renamed, removed or taken from elsewhere."""
    tree = json.loads(content)
    nodes = list(_nodes(tree))
    parent, key = rng.choice(nodes)
    kind = rng.random()
    if kind < 0.15 and isinstance(parent, dict):
        del parent[key]
    elif kind < 0.3 and isinstance(parent, dict):
        parent[rng.choice((*NAMES, key + "x"))] = parent.pop(key)
    elif kind < 0.4:
        other, place = rng.choice(nodes)
        parent[key] = json.loads(json.dumps(other[place]))
    else:
        parent[key] = rng.choice(_values(rng))
    return json.dumps(tree).encode()


def _nodes(tree: Any) -> Any:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in list(items):
        yield tree, key
        if isinstance(value, dict | list) and len(value) < 20_000:
            yield from _nodes(value)


def _values(rng: random.Random) -> tuple[Any, ...]:
    deep: Any = 0
    for _ in range(500):
        deep = [deep]
    return (
        None, True, -1, 0, 0.5, -1e308, 1e308, rng.choice(ABSURD), 10**40, rng.choice(NAMES),
        [], {}, [1, 2, 3], [rng.choice(ABSURD)] * 3, {"a": {}}, deep,
    )  # fmt: skip
