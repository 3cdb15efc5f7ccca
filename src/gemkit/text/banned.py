"""Strings that an answer must never hold, however it is cut into tokens."""

from collections.abc import Sequence

import numpy as np

from gemkit.errors import UsageError


class BannedText:
    """Which tokens would complete one of some strings.

    >>> banned = BannedText([b"", b"a", b"bc", b"abc", b"c"], ["abc"], 5)
    >>> banned.allowed([]).tolist(), banned.allowed([4, 1]).tolist()
    ([True, True, True, False, True], [True, True, False, False, True])
    """

    def __init__(self, pieces: Sequence[bytes], texts: Sequence[str], size: int) -> None:
        """Args:
          pieces: the bytes of each token.
          texts: none empty.
          size: V of the masks, where the model has more tokens than the vocabulary.

        Raises:
          UsageError: an empty string, or none that is valid Unicode.
        """
        self._pieces, self._free = pieces, np.ones(size, bool)
        self._endings: list[tuple[bytes, np.ndarray]] = []
        for text in texts:
            whole = _bytes(text)
            self._free[[n for n, piece in enumerate(pieces) if whole in piece]] = False
            for cut in range(1, len(whole)):
                start, rest = whole[:cut], whole[cut:]
                found = [n for n, piece in enumerate(pieces) if piece.startswith(rest)]
                self._endings.append((start, np.asarray(found, np.int64)))
        self._longest = max((len(start) for start, _ in self._endings), default=0)

    def allowed(self, answer: Sequence[int]) -> np.ndarray:
        """The tokens that may follow these, bool [V]."""
        tail, place = b"", len(answer)
        while place and len(tail) < self._longest:
            place -= 1
            tail = self._pieces[answer[place]] + tail
        mask = self._free.copy()
        for start, completing in self._endings:
            if tail.endswith(start):
                mask[completing] = False
        return mask


def _bytes(text: str) -> bytes:
    try:
        found = text.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"the banned text is {text!r}", "valid Unicode") from None
    if not found:
        raise UsageError("a banned text is empty", "some text in each")
    return found
