"""Stop strings in a stream of tokens: they may span tokens and are never partly shown."""

from collections.abc import Sequence

from gemkit.text.tokenizer import TextStream


class StopText:
    """A text stream that ends before the stop string that is complete first.

    Of several that end with the same character, before the longest; so it does not matter how the
    text is cut into tokens.

    What could still become a stop string is held back until it is one or cannot be.
    """

    def __init__(self, stream: TextStream, stops: Sequence[str]) -> None:
        self.stopped = False
        self._stream, self._stops, self._held = stream, tuple(stops), ""

    def push(self, token: int) -> str:
        """The text that became certain with this token."""
        return "" if self.stopped else self._release(self._stream.push(token))

    def flush(self) -> str:
        """What is left at the end."""
        if self.stopped:
            return ""
        text = self._release(self._stream.flush())
        text, self._held = text + self._held, ""
        return text

    def _release(self, text: str) -> str:
        self._held += text
        starts = {stop: self._held.find(stop) for stop in self._stops}
        ends = [(start + len(stop), start) for stop, start in starts.items() if start >= 0]
        if ends:
            self.stopped = True
            text, self._held = self._held[: min(ends)[1]], ""
            return text
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        text, self._held = self._held[: len(self._held) - keep], self._held[-keep:] if keep else ""
        return text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of the text that begins the stop string.

    >>> _overlap("one two", "two three")
    3
    """
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
