"""Scores of labels: accuracy, macro-F1, per-label precision and recall, confusion matrix.

Definitions are scikit-learn's, with 0 where a ratio has nothing below it; the tests compare.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gemkit.errors import DataError

MATRIX_LABELS = 12
"""A terminal shows the whole confusion matrix up to so many labels, else the commonest mistakes."""


@dataclass(frozen=True)
class LabelScores:
    """Scores of one label; support: how many rows truly have it."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class ClassificationScores:
    """Scores of predicted labels. confusion[i][j]: rows of label i that were given label j."""

    count: int
    correct: int
    accuracy: float
    macro_f1: float
    per_label: tuple[LabelScores, ...]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def metrics(self) -> dict[str, float]:
        """Figures by their names in `metrics.scores.METRICS`."""
        return {"accuracy": self.accuracy, "macro_f1": self.macro_f1}

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of `per_label` and of the confusion matrix."""
        return tuple(scores.label for scores in self.per_label)

    def mistakes(self) -> list[tuple[str, str, int]]:
        """(truth, answer, how often), the commonest first."""
        wrong = [
            (truth, answer, self.confusion[i][j])
            for i, truth in enumerate(self.labels)
            for j, answer in enumerate(self.labels)
            if i != j and self.confusion[i][j]
        ]
        return sorted(wrong, key=lambda mistake: -mistake[2])

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            **asdict(self),
            "labels": list(self.labels),
            "per_label": [asdict(scores) for scores in self.per_label],
            "confusion": [list(row) for row in self.confusion],
        }

    def table(self) -> str:
        """The scores for a terminal, columns aligned also where letters are two cells wide."""
        head = f"accuracy {self.accuracy:.1%} ({self.correct} of {self.count})"
        scores = [["label", "precision", "recall", "F1", "rows"]]
        for s in self.per_label:
            scores.append(
                [s.label, f"{s.precision:.3f}", f"{s.recall:.3f}", f"{s.f1:.3f}", str(s.support)]
            )
        parts = [f"{head}, macro-F1 {self.macro_f1:.3f}", _aligned(scores)]
        if len(self.labels) <= MATRIX_LABELS:
            matrix = [["truth \\ answer", *self.labels]]
            for label, row in zip(self.labels, self.confusion, strict=True):
                matrix.append([label, *map(str, row)])
            parts.append(_aligned(matrix))
        elif mistakes := self.mistakes():
            rows = [[truth, answer, str(n)] for truth, answer, n in mistakes[:MATRIX_LABELS]]
            parts.append(_aligned([["truth", "answer", "rows"], *rows]))
        return "\n\n".join(parts)


def score_labels(
    truth: Sequence[str], answers: Sequence[str], labels: Sequence[str] | None = None
) -> ClassificationScores:
    """Scores of answers against the true labels, row by row.

    `labels` gives the labels there are, in the order to show them (default: all that occur,
    sorted). A label that neither occurs in truth nor in the answers does not count in macro-F1.

    Raises:
        DataError: no rows; a label outside `labels`. A truth that the model cannot answer is for
            the caller to find first, with file and line.

    >>> scores = score_labels(["good", "good", "bad"], ["good", "bad", "bad"])
    >>> scores.labels, scores.confusion, round(scores.macro_f1, 3)
    (('bad', 'good'), ((1, 0), (1, 1)), 0.667)
    """
    if len(truth) != len(answers):
        raise ValueError(f"{len(truth)} true labels, {len(answers)} answers")
    if not truth:
        raise DataError("no rows to score", "at least one")
    occurring = {*truth, *answers}
    known = sorted(occurring) if labels is None else list(labels)
    number = {label: i for i, label in enumerate(known)}
    if unknown := sorted(occurring - number.keys()):
        raise DataError(
            f"label {unknown[0][:40]!r} is unknown", f"one of {', '.join(map(repr, known[:12]))}"
        )
    confusion = np.zeros((len(known), len(known)), np.int64)
    np.add.at(confusion, ([number[t] for t in truth], [number[a] for a in answers]), 1)
    hits, support, answered = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    precision, recall = _ratio(hits, answered), _ratio(hits, support)
    f1 = _ratio(2 * hits, support + answered)
    return ClassificationScores(
        count=len(truth),
        correct=int(hits.sum()),
        accuracy=float(hits.sum() / len(truth)),
        macro_f1=float(f1[support + answered > 0].mean()),
        per_label=tuple(
            LabelScores(label, float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
            for i, label in enumerate(known)
        ),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return above / np.maximum(below, 1)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns two spaces apart, the first to the left and the others to the right."""
    from rich.cells import cell_len, set_cell_size

    rows = [[" ".join(cell.split()) for cell in row] for row in rows]
    columns = []
    for i, column in enumerate(zip(*rows, strict=True)):
        width = min(max(map(cell_len, column)), 32)
        cut = [set_cell_size(cell, min(cell_len(cell), width)) for cell in column]
        blanks = [" " * (width - cell_len(cell)) for cell in cut]
        columns.append(
            [blank + cell if i else cell + blank for cell, blank in zip(cut, blanks, strict=True)]
        )
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))
