"""A task over a file: label every row, or score the answers against the labels it has."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gemkit.errors import CheckpointError, DataError, UsageError
from gemkit.evaluate.metrics import ClassificationScores, score_labels
from gemkit.language_model import Choice, LanguageModel
from gemkit.loading import load, read_run
from gemkit.progress import progress
from gemkit.tasks.classify import Classify
from gemkit.train.data import Table, read_table, write_table
from gemkit.train.table_files import KINDS


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What `predict_file` did.

    Attributes:
      table: the rows that were read, and those skipped.
      answers: one a row.
      column: where the label was written.
      out: the file.
    """

    table: Table
    answers: list[Choice]
    column: str
    out: Path


def run_task(run: str | Path, text: str | None = None, label: str | None = None) -> Classify:
    """The task that a run was tuned on, with other columns where given.

    Raises:
      UsageError: not a run directory.
      CheckpointError: its run.json is damaged.
    """
    path = Path(run)
    if not (path / "run.json").is_file():
        raise UsageError(f"{path} is no run directory", "one that gemkit tune made")
    try:
        settings = dict(read_run(path)["task"])
        if (name := settings.pop("name")) != Classify.name:
            raise UsageError(f"{path} is a run of the task {name!r}", f"{Classify.name!r}")
        task = Classify.from_dict(settings)
    except (KeyError, TypeError, ValueError) as error:
        what = f"{path / 'run.json'} describes no task: {error!r}"
        raise CheckpointError(what, "a run of gemkit tune") from None
    return dataclasses.replace(task, text=text or task.text, label=label or task.label)


def predict_file(
    run: str | Path, file: str | Path, out: str | Path, text: str | None = None,
    skip_bad_rows: bool = False, probabilities: bool = False, dtype: str | None = None,
    show_progress: bool | None = None,
) -> Prediction:  # fmt: skip
    """Labels every row of a file with a tuned model.

    The label goes into the column the run learnt it from, in place if the file has that column
    and after the others if not: `id, comment` becomes `id, comment, label`.

    Args:
      run: run directory.
      file: table file with the texts.
      out: table file to write; the suffix says the format.
      text: column with the texts, where it is named otherwise than in training.
      skip_bad_rows: leave out rows that cannot be used instead of stopping.
      probabilities: add a column `p(label)` for each label.
      dtype: of the weights; None is what the run was tuned in.
      show_progress: None shows a bar on a terminal.

    Raises:
      DataError: a file that cannot be read or written, a row that cannot be used.
      CheckpointError: a damaged run, or a base that is not the one it was tuned on.
    """
    check_writable(Path(out))
    table = read_table(file, skip_bad_rows=skip_bad_rows)
    task = run_task(run, text).for_texts(table)
    lm = load(run, dtype)
    if skip_bad_rows:
        longest = lm.config.max_positions
        table = task.without_bad_rows(lm.tokenizer, table, longest, labelled=False)
    answers = _answers(lm, task, table, show_progress)
    assert task.label is not None
    columns, rows = labelled_rows(table, task, answers, task.label, probabilities)
    write_table(out, columns, rows, like=table)
    return Prediction(table, answers, task.label, Path(out))


def evaluate_file(
    model: LanguageModel | str | Path, task: Classify, file: str | Path,
    skip_bad_rows: bool = False, dtype: str | None = None, show_progress: bool | None = None,
) -> tuple[ClassificationScores, Table, list[Choice]]:  # fmt: skip
    """Scores a model's labels against those of a file.

    Args:
      model: a loaded model, or any MODEL.
      task: columns, and the labels there are; without labels they are those of the file.
      file: table file with texts and labels.
      skip_bad_rows: leave out rows that cannot be used instead of stopping.
      dtype: of the weights, where they are not loaded yet; None as stored.
      show_progress: None shows a bar on a terminal.

    Returns:
      The scores, the rows and the answer to each.

    Raises:
      DataError: a file that cannot be read, a row or label that cannot be used.
    """
    table = read_table(file, skip_bad_rows=skip_bad_rows)
    task = task.for_labels(table)
    lm = model if isinstance(model, LanguageModel) else load(model, dtype)
    if skip_bad_rows:
        longest = lm.config.max_positions
        table = task.without_bad_rows(lm.tokenizer, table, longest, labelled=True)
    task = task if task.labels else task.fitted(table)
    truth = task.truth(table)
    answers = _answers(lm, task, table, show_progress)
    return score_labels(truth, [a.choice for a in answers], task.labels), table, answers


def labelled_rows(
    table: Table, task: Classify, answers: Sequence[Choice], column: str, probabilities: bool
) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of a table with the answers in `column`, and with their probabilities."""
    shares = [f"p({label})" for label in task.labels] if probabilities else []
    columns = [*table.columns]
    columns += [name for name in (column, *shares) if name not in table.columns]
    rows = []
    for row, answer in zip(table.rows, answers, strict=True):
        figures = [f"{p:.6f}" for p in answer.probabilities]
        rows.append({**row, column: answer.choice, **dict(zip(shares, figures, strict=False))})
    return columns, rows


def check_writable(out: Path) -> None:
    """Makes sure, before long work, that a table file can be written there.

    Raises:
      UsageError: a suffix that says no format.
      DataError: a folder, or a place where no file can be made.
    """
    if out.parts[:2] == ("/", "dev"):
        return
    if out.suffix.lower() not in KINDS:
        raise UsageError(f"{out} has the suffix {out.suffix!r}", f"one of {', '.join(KINDS)}")
    if out.is_dir():
        raise DataError(f"{out} is a folder", "the name of a file")
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(
            f"cannot write {out}: {error.strerror or error}", "a folder that can be written"
        ) from None


def _answers(
    lm: LanguageModel, task: Classify, table: Table, show: bool | None
) -> list[Choice]:
    with progress("labelling", show) as update:
        return task.predict(lm, table, lambda done, total: update(done, total, ""))
