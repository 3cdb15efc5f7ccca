"""Labels for texts: learnt as an answer, given by scoring every label, never by generation."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

from gemkit.errors import DataError, UsageError
from gemkit.generate.score import Progress
from gemkit.language_model import Choice, LanguageModel
from gemkit.text.templates import TEMPLATES
from gemkit.text.tokenizer import Tokenizer
from gemkit.train.data import Table, guess_column
from gemkit.train.packing import Example
from gemkit.train.table_files import BadRow

TEXT_COLUMNS = ("text", "comment", "review", "sentence", "document", "content", "body", "message")
LABEL_COLUMNS = ("label", "class", "category", "sentiment", "target", "y")
MOST_LABELS = 200


@dataclasses.dataclass(frozen=True)
class Classify:
    """One label out of a fixed set for each text.

    Attributes:
      text: column with the text; None guesses it where only one name fits.
      label: column with the label; None guesses likewise.
      labels: all labels; found in the training rows when empty.
      template: name of the prompt in `text.templates.TEMPLATES`.
    """

    text: str | None = None
    label: str | None = None
    labels: tuple[str, ...] = ()
    template: str = "classify"

    name = "classify"

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values; `Classify(**…)` with a tuple of labels restores them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "Classify":
        """The task that `to_dict` described."""
        return cls(**{**settings, "labels": tuple(settings["labels"])})

    def fitted(self, table: Table) -> "Classify":
        """The task with columns and labels taken from training rows where not given.

        Raises:
          UsageError: columns that cannot be guessed.
          DataError: fewer than two labels, too many, an empty text or label.
        """
        task = self.for_labels(table)
        label, found = task.label, Counter(task.truth(table))
        if len(found) < 2:
            raise DataError(
                f"{table.path}: every label is {next(iter(found))!r}", "at least two labels"
            )
        if len(found) > MOST_LABELS:
            raise DataError(
                f"{table.path}: column {label!r} has {len(found)} different labels",
                f"at most {MOST_LABELS}", "is it the right column?",
            )  # fmt: skip
        unknown = sorted(set(found) - set(self.labels)) if self.labels else []
        if unknown:
            raise DataError(
                f"{table.path}: label {unknown[0]!r} is new", f"one of {', '.join(self.labels)}"
            )
        return dataclasses.replace(task, labels=self.labels or tuple(sorted(found)))

    def for_labels(self, table: Table) -> "Classify":
        """The task with its two columns found in a labelled file."""
        label = self.label or guess_column(table, LABEL_COLUMNS, "label")
        task = dataclasses.replace(self.for_texts(table), label=label)
        if task.text == label:
            raise UsageError(
                f"{table.path}: column {label!r} is both text and label", "two columns",
                "name them with --text and --label",
            )  # fmt: skip
        return task

    def for_texts(self, table: Table) -> "Classify":
        """The task with its text column found in a file that need not have labels."""
        if self.text is not None:
            if self.text not in table.columns:
                raise DataError(
                    f"{table.path}: no column {self.text!r}",
                    f"one of {', '.join(table.columns)}", "name it with --text",
                )  # fmt: skip
            return self
        return dataclasses.replace(self, text=guess_column(table, TEXT_COLUMNS, "text"))

    def truth(self, table: Table) -> list[str]:
        """The rows' labels.

        Raises:
          DataError: no such column, an empty label, or one the task does not know.
        """
        assert self.label is not None
        if self.label not in table.columns:
            raise DataError(
                f"{table.path}: no column {self.label!r}",
                f"one of {', '.join(table.columns)}", "name it with --label",
            )  # fmt: skip
        labels = [label.strip() for label in table.texts(self.label)]
        for row, label in enumerate(labels):
            if not label or (self.labels and label not in self.labels):
                problem = f"label {label!r} is unknown" if label else "the label is empty"
                raise DataError(
                    f"{table.where(row)}: {problem}",
                    f"one of {', '.join(self.labels)}" if self.labels else "a label",
                )
        return labels

    def prompts(self, tokenizer: Tokenizer, table: Table, longest: int) -> list[list[int]]:
        """Each row's prompt as ids, `<bos>` first.

        Raises:
          DataError: an empty text, or one longer than `longest` tokens with its prompt.
        """
        assert self.text is not None
        template = TEMPLATES[self.template]
        rows = []
        for row, text in enumerate(table.texts(self.text)):
            if not text.strip():
                raise DataError(f"{table.where(row)}: the text is empty", "some text")
            rendered = template.render(text=text.strip(), labels=", ".join(self.labels))
            ids = tokenizer.encode(rendered, bos=True)
            if len(ids) > longest:
                raise DataError(
                    f"{table.where(row)}: the text is {len(ids)} tokens long with its prompt",
                    f"at most {longest}", "shorten or remove it",
                )  # fmt: skip
            rows.append(ids)
        return rows

    def without_bad_rows(
        self, tokenizer: Tokenizer, table: Table, longest: int, labelled: bool
    ) -> Table:
        """The table without rows that cannot be used; they are added to `skipped`.

        Args:
          longest: most tokens of prompt and answer.
          labelled: whether a row needs a label.

        Raises:
          DataError: no row is left.
        """
        labels = self.labels
        if not labels and self.label in table.columns:
            labels = tuple({str(row.get(self.label) or "") for row in table.rows})
        room = longest - max((len(tokenizer.encode(label)) + 1 for label in labels), default=1)
        kept, bad = [], []
        for row in range(len(table.rows)):
            one = table.part([row])
            try:
                self.prompts(tokenizer, one, room)
                if labelled:
                    self.truth(one)
                kept.append(row)
            except DataError as error:
                bad.append(BadRow(table.lines[row], error.what, error.expected))
        if not kept:
            raise DataError(bad[0].reason, bad[0].expected, f"all {len(bad)} rows are bad")
        return dataclasses.replace(table.part(kept), skipped=[*table.skipped, *bad])

    def answers(self, tokenizer: Tokenizer) -> list[list[int]]:
        """Ids of each label, `<eos>` last."""
        return [[*tokenizer.encode(label), tokenizer.eos_id] for label in self.labels]

    def examples(self, tokenizer: Tokenizer, table: Table, longest: int) -> list[Example]:
        """What training reads: prompt and answer, with the answer as the target.

        Raises:
          DataError: see `prompts` and `truth`.
        """
        answer_of = dict(zip(self.labels, self.answers(tokenizer), strict=True))
        room = longest - max(map(len, answer_of.values()))
        prompts = self.prompts(tokenizer, table, room)
        return [
            Example([*prompt, *answer_of[label]], [False] * len(prompt) + [True] * len(answer))
            for prompt, label in zip(prompts, self.truth(table), strict=True)
            for answer in (answer_of[label],)
        ]

    def predict(
        self, lm: LanguageModel, table: Table, progress: Progress | None = None
    ) -> list[Choice]:
        """A scored label for every row, in order."""
        task = self.for_texts(table)
        if len(task.labels) < 2:
            raise UsageError("the task has no labels", "two or more")
        tokenizer = lm.tokenizer
        continuations = lm.closed([tokenizer.encode(label) for label in task.labels])
        room = lm.config.max_positions - max(map(len, continuations))
        prompts = task.prompts(tokenizer, table, room)
        return lm.choose_ids(prompts, continuations, task.labels, progress)
