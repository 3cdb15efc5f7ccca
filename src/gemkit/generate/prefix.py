"""Prompt starts that were read before: blocks of keys and values within a memory budget.

A block belongs to the tokens it holds and to all before them, so that its key is a chain of
hashes. Blocks of one prompt leave from the end: a start without its rest is still of use, a rest
without its start is not.
"""

import collections
import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from gemkit.model import cache as kv

BLOCK = 64
"""Tokens of a block; divides `PIECE`, so that a block never wraps around in a ring."""
BUDGET = 2**28
"""Bytes kept unless told otherwise."""

read_block = jax.jit(kv.read_block, static_argnames="size")
write_block = jax.jit(kv.write_block, donate_argnames="cache")


@dataclasses.dataclass(frozen=True)
class Block:
    """Keys and values of one block in every layer, as `cache.read_block` gives them."""

    arrays: list[Any]
    nbytes: int


class PrefixCache:
    """Blocks by key, the least recently used first. For one model and one dtype of cache.

    >>> cache = PrefixCache()
    >>> keys = cache.keys(range(200))
    >>> len(keys), cache.match(keys)
    (3, 0)
    """

    def __init__(self, budget: int = BUDGET, block: int = BLOCK) -> None:
        """Holds at most `budget` bytes, in blocks of `block` tokens."""
        self.budget, self.block = budget, block
        self.nbytes = 0
        self._blocks: collections.OrderedDict[bytes, Block] = collections.OrderedDict()

    def keys(self, tokens: Sequence[int]) -> list[bytes]:
        """The key of every full block of a sequence."""
        found, chain = [], b""
        for end in range(self.block, len(tokens) + 1, self.block):
            held = np.asarray(tokens[end - self.block : end], np.int32).tobytes()
            chain = hashlib.sha256(chain + held).digest()
            found.append(chain)
        return found

    def match(self, keys: Sequence[bytes]) -> int:
        """How many of a sequence's first blocks are held."""
        missing = (number for number, key in enumerate(keys) if key not in self._blocks)
        return next(missing, len(keys))

    def __getitem__(self, key: bytes) -> list[Any]:
        """The arrays of a block that is held."""
        return self._blocks[key].arrays

    def __contains__(self, key: bytes) -> bool:
        return key in self._blocks

    def touch(self, keys: Sequence[bytes]) -> None:
        """Marks the blocks of a start as used, the first one as the latest."""
        for key in reversed(keys):
            if key in self._blocks:
                self._blocks.move_to_end(key)

    def put(self, keys: Sequence[bytes], arrays: list[Any]) -> bool:
        """Keeps the last block of `keys`; those before it stay.

        Returns:
          False if it does not fit, or if one before it has left.
        """
        *before, key = keys
        if key in self._blocks:
            self.touch(keys)
            return True
        if self.match(before) < len(before):
            return False
        self.touch(before)
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(arrays))
        own = set(before)
        while self.nbytes + size > self.budget:
            oldest = next(iter(self._blocks), None)
            if oldest is None or oldest in own:
                return False
            self.nbytes -= self._blocks.pop(oldest).nbytes
        self._blocks[key] = Block(arrays, size)
        self.nbytes += size
        self.touch(before)
        return True
