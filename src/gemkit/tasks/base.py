"""What a task is: rows of a table → examples to learn from, prompts to answer, scores.

A task is a frozen dataclass; its fields are its settings, as they stand in run.json, and are what
the command line calls by the same names. Methods return a changed task, never change one.
"""

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

from gemkit.errors import DataError, UsageError
from gemkit.generate.score import Progress
from gemkit.language_model import LanguageModel
from gemkit.metrics.scores import Scores
from gemkit.text.tokenizer import Tokenizer
from gemkit.train.data import Table, read_table
from gemkit.train.packing import Example
from gemkit.train.table_files import BadRow


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model says to a row.

    Attributes:
      text: the label, the translation, the reply, …
      probabilities: of each possible answer, where there is a fixed set of them.
    """

    text: str
    probabilities: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def probability(self) -> float | None:
        """Of `text`; None if it was generated."""
        return self.probabilities.get(self.text)


class Task(Protocol):
    """One kind of thing to learn. The methods with a body do for most tasks.

    Attributes:
      name: what the command line calls it.
      measures: names in `metrics.scores.METRICS`; the first tells the best validation.
    """

    name: ClassVar[str]
    measures: ClassVar[tuple[str, ...]]

    @property
    def column(self) -> str:
        """Where `predict` writes answers; known once the columns are."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values."""
        settings: Any = self
        return dataclasses.asdict(settings)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """The task that `to_dict` described."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})

    def read(self, path: str | Path, skip_bad_rows: bool = False, labelled: bool = True) -> Table:
        """The rows of a file, or of what else this task learns from.

        Args:
          skip_bad_rows: leave out what cannot be read instead of stopping.
          labelled: rows to learn from or to be scored by; else rows to answer, all of which are
            wanted.
        """
        return read_table(path, skip_bad_rows=skip_bad_rows)

    def found(self, table: Table, labelled: bool = True) -> Self:
        """The task with its columns found in a table, those of the truth only if `labelled`.

        Raises:
          UsageError: a column that cannot be guessed. DataError: one that is not there.
        """
        ...

    def fitted(self, table: Table) -> Self:
        """The task with all that it takes from training rows before learning."""
        return self.found(table)

    def without_bad_rows(
        self, tokenizer: Tokenizer, table: Table, longest: int, labelled: bool
    ) -> Table:
        """The table without rows that cannot be used; they are added to `skipped`.

        Args:
          longest: most tokens of prompt and answer.
          labelled: whether a row needs the truth.

        Raises:
          DataError: no row is left.
        """
        ...

    def split(self, table: Table, share: float, seed: int) -> tuple[Table, Table]:
        """Rows for training and rows for validation, `share` of all.

        Raises:
          UsageError: a share that is none. DataError: too few rows.
        """
        return split_groups(table, [str(row) for row in range(len(table.rows))], share, seed)

    def examples(self, tokenizer: Tokenizer, table: Table, longest: int) -> list[Example]:
        """What training reads.

        Args:
          longest: most tokens of an example.

        Raises:
          DataError: a row that cannot be used.
        """
        ...

    def predict(
        self, lm: LanguageModel, table: Table, progress: Progress | None = None
    ) -> list[Answer]:
        """An answer to every row, in order."""
        ...

    def shown(self, table: Table) -> list[tuple[str, str]]:
        """Per row, for people: what is asked and the true answer."""
        ...

    def score(self, answers: Sequence[Answer], table: Table) -> Scores:
        """The answers against the truth: all of `measures` but those of the loss."""
        ...


Known = TypeVar("Known", bound=Task)


def changed(task: Known, **settings: Any) -> Known:
    """The task with the settings that are not None.

    Raises:
      UsageError: a setting it has not.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    fields = task.to_dict()
    if unknown := [name for name in given if name not in fields]:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in fields)
        raise UsageError(
            f"--{unknown[0].replace('_', '-')} is nothing to the task {task.name}", f"of {flags}"
        )
    return type(task).from_dict({**fields, **given})


def keep_usable(table: Table, check: Callable[[Table], object]) -> Table:
    """The table without the rows that `check`, given a table of one, refuses by DataError."""
    kept, bad = [], []
    for row in range(len(table.rows)):
        try:
            check(table.part([row]))
            kept.append(row)
        except DataError as error:
            bad.append(BadRow(table.lines[row], error.what, error.expected))
    if not kept:
        raise DataError(bad[0].reason, bad[0].expected, f"all {len(bad)} rows are bad")
    return dataclasses.replace(table.part(kept), skipped=[*table.skipped, *bad])


def split_groups(
    table: Table, groups: Sequence[str], share: float, seed: int
) -> tuple[Table, Table]:
    """Rows for training and for validation; those of one group stay together.

    Groups are taken in random order until validation has `share` of the rows, at least one group.
    """
    if not 0 < share < 1:
        raise UsageError(f"--valid-share is {share:g}", "a number between 0 and 1", "such as 0.1")
    rows_of: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        rows_of.setdefault(group, []).append(row)
    if len(rows_of) < 2:
        raise DataError(
            f"{table.path} has {len(rows_of)} row", "at least 2, to split off validation rows",
            "add rows, or pass --valid FILE or --valid-share 0",
        )  # fmt: skip
    order = list(rows_of.values())
    random.Random(seed).shuffle(order)
    wanted, held = max(1, round(share * len(groups))), list[int]()
    for rows in order[:-1]:
        if len(held) >= wanted:
            break
        held += rows
    chosen = set(held)
    kept = [row for row in range(len(groups)) if row not in chosen]
    valid = dataclasses.replace(table.part(sorted(held)), skipped=[])
    return table.part(kept), valid


def has_column(table: Table, column: str, flag: str) -> str:
    """The column, if the table has it.

    Raises:
      DataError: it has not.
    """
    if column not in table.columns:
        raise DataError(
            f"{table.path}: no column {column!r}", f"one of {', '.join(table.columns)}",
            f"name it with --{flag}",
        )  # fmt: skip
    return column
