"""What the checks look at, and what they say."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

from gemkit.text.fim import SEPARATOR
from gemkit.text.tokenizer import Tokenizer
from gemkit.train.packing import Example

Severity = Literal["ok", "warning", "error"]
MAX_TEXT = 80


@dataclasses.dataclass(frozen=True)
class Case:
    """One example and the row it comes from.

    Attributes:
      example: ids and which of them are learnt.
      where: the row, as `train.tsv:12`.
      text: what the row holds, as it was typed.
      shown: what of it to show.
      label: its label, for tasks with a fixed set of them.
    """

    example: Example
    where: str
    text: str
    shown: str
    label: str | None = None

    def runs(self) -> list[tuple[int, int]]:
        """[first, end) of each stretch of targets: the answers.

        >>> Case(Example([2, 5, 6, 7, 8], [False, True, False, True, True]), "", "", "").runs()
        [(1, 2), (3, 5)]
        """
        marks = [False, *map(bool, self.example.target), False]
        edges = [t for t in range(len(marks) - 1) if marks[t] != marks[t + 1]]
        return list(zip(edges[::2], edges[1::2], strict=True))

    @cached_property
    def question(self) -> tuple[int, ...]:
        """What stands before the last answer; everything where nothing but `<bos>` does."""
        runs = self.runs()
        start = runs[-1][0] if runs else 0
        return tuple(map(int, self.example.ids[:start] if start > 1 else self.example.ids))


@dataclasses.dataclass(frozen=True)
class Material:
    """Everything the checks may look at.

    Attributes:
      tokenizer: of the model.
      most: tokens an example may have: the context, or less if asked for.
      batch_tokens: token slots of a training step.
      knows_turns: whether the model was trained on chat turns; None where nothing tells.
      train, valid: the examples; no `valid` where no file was given.
      unusable: (where, why) of the rows that cannot be read, of both files.
    """

    tokenizer: Tokenizer
    most: int
    batch_tokens: int
    knows_turns: bool | None
    train: Sequence[Case]
    valid: Sequence[Case] = ()
    unusable: Sequence[tuple[str, str]] = ()

    @property
    def cases(self) -> list[Case]:
        return [*self.train, *self.valid]

    @property
    def ends(self) -> frozenset[int]:
        """The tokens that end an answer: `<eos>`, an end of turn or of a file."""
        ends = {self.tokenizer.eos_id, self.tokenizer.end_of_turn_id}
        if SEPARATOR in self.tokenizer:
            ends.add(self.tokenizer.token_to_id(SEPARATOR))
        return frozenset(token for token in ends if token is not None)


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check says.

    Attributes:
      severity: "ok"; "warning": look at it; "error": a run would fail, or its result would lie.
      summary: one line with the counts.
      count, total: rows concerned, out of how many.
      where, text: a row to look at, as `train.tsv:12`, and its beginning; "" where there is none.
      todo: what to do about it.
      check: the check's name.
    """

    severity: Severity
    summary: str
    count: int = 0
    total: int = 0
    where: str = ""
    text: str = ""
    todo: str = ""
    check: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return dataclasses.asdict(self)


def shortened(text: str, most: int = MAX_TEXT) -> str:
    """On one line, cut with an ellipsis.

    >>> shortened("a\\n b", 10), shortened("abcdefgh", 5)
    ('a b', 'abcd…')
    """
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
