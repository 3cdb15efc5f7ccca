"""Labels for texts: learnt as an answer, given by scoring every label, never by generation."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

from gemkit.errors import DataError, UsageError
from gemkit.generate.score import Progress
from gemkit.language_model import LanguageModel
from gemkit.metrics.labels import ClassificationScores, score_labels
from gemkit.tasks.base import Answer, Task, has_column, keep_usable
from gemkit.text.templates import TEMPLATES
from gemkit.text.tokenizer import Tokenizer
from gemkit.train.data import Table, guess_column, split_rows
from gemkit.train.packing import Example

TEXT_COLUMNS = ("text", "comment", "review", "sentence", "document", "content", "body", "message")
LABEL_COLUMNS = ("label", "class", "category", "sentiment", "target", "y")
MOST_LABELS = 200


@dataclasses.dataclass(frozen=True)
class Classify(Task):
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
    measures = ("accuracy", "macro_f1")

    @property
    def column(self) -> str:
        """The label's."""
        assert self.label is not None
        return self.label

    def fitted(self, table: Table) -> "Classify":
        """The task with columns and labels taken from training rows where not given.

        Raises:
          UsageError: columns that cannot be guessed.
          DataError: fewer than two labels, too many, an empty text or label.
        """
        task = self.found(table)
        label, found = task.label, Counter(task.truth(table))
        if self.labels:
            return task
        if len(found) < 2:
            raise DataError(
                f"{table.path}: every label is {next(iter(found))!r}", "at least two labels"
            )
        if len(found) > MOST_LABELS:
            raise DataError(
                f"{table.path}: column {label!r} has {len(found)} different labels",
                f"at most {MOST_LABELS}", "is it the right column?",
            )  # fmt: skip
        return dataclasses.replace(task, labels=tuple(sorted(found)))

    def found(self, table: Table, labelled: bool = True) -> "Classify":
        """The task with its columns found in a file."""
        label = self.label
        if labelled:
            label = label or guess_column(table, LABEL_COLUMNS, "label")
        text = has_column(table, self.text, "text") if self.text else None
        text = text or guess_column(table, TEXT_COLUMNS, "text")
        if labelled and text == label:
            raise UsageError(
                f"{table.path}: column {label!r} is both text and label", "two columns",
                "name them with --text and --label",
            )  # fmt: skip
        return dataclasses.replace(self, text=text, label=label)

    def truth(self, table: Table) -> list[str]:
        """The rows' labels.

        Raises:
          DataError: no such column, an empty label, or one the task does not know.
        """
        assert self.label is not None
        has_column(table, self.label, "label")
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

        def check(one: Table) -> None:
            self.prompts(tokenizer, one, room)
            if labelled:
                self.truth(one)

        return keep_usable(table, check)

    def split(self, table: Table, share: float, seed: int) -> tuple[Table, Table]:
        """Every label on both sides, in its proportion; see `train.data.split_rows`."""
        kept, held = split_rows(self.truth(table), share, seed)
        return table.part(kept), dataclasses.replace(table.part(held), skipped=[])

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
    ) -> list[Answer]:
        """A scored label for every row, in order."""
        task = self.found(table, labelled=False)
        if len(task.labels) < 2:
            raise UsageError("the task has no labels", "two or more")
        tokenizer = lm.tokenizer
        continuations = lm.closed([tokenizer.encode(label) for label in task.labels])
        room = lm.config.max_positions - max(map(len, continuations))
        prompts = task.prompts(tokenizer, table, room)
        return [
            Answer(choice.choice, dict(zip(task.labels, choice.probabilities, strict=True)))
            for choice in lm.choose_ids(prompts, continuations, task.labels, progress)
        ]

    def shown(self, table: Table) -> list[tuple[str, str]]:
        """Text and label."""
        assert self.text is not None
        return list(zip(table.texts(self.text), self.truth(table), strict=True))

    def score(self, answers: Sequence[Answer], table: Table) -> ClassificationScores:
        """Accuracy, F1 and the confusion matrix."""
        return score_labels(self.truth(table), [a.text for a in answers], self.labels)
