"""A task over a file: answer every row, or score the answers against the truth it has."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gemkit.errors import CheckpointError, DataError, UsageError
from gemkit.evaluate.execution import Passed, Program, failures, passed
from gemkit.evaluate.likelihood import measure_likelihood
from gemkit.language_model import LanguageModel
from gemkit.loading import load, read_run
from gemkit.metrics.scores import METRICS, Figures, Scores
from gemkit.progress import progress
from gemkit.tasks import TASKS, Answer, Complete, Task, changed
from gemkit.tasks.files import is_table
from gemkit.train.data import Table, write_table
from gemkit.train.table_files import KINDS


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What `predict_file` did.

    Attributes:
      table: the rows that were read, and those skipped.
      answers: one a row.
      column: where they were written.
      out: the file.
    """

    table: Table
    answers: list[Answer]
    column: str
    out: Path


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What `evaluate_file` found.

    Attributes:
      table: the rows that were scored, and those skipped.
      answers: one a row; empty where the task's measures are all of the loss.
      scores: of the answers, None without.
      likelihood: the measures of the loss, where the task has any.
      ran: what came of running the completed files, where that was asked for.
    """

    table: Table
    answers: list[Answer]
    scores: Scores | None
    likelihood: Figures | None
    ran: Passed | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """All figures by name."""
        ran = None if self.ran is None else Figures({"pass@1": self.ran.rate})
        return {
            name: value
            for part in (self.likelihood, self.scores, ran) if part is not None
            for name, value in part.metrics.items()
        }  # fmt: skip

    def shown(self) -> str:
        """For a terminal."""
        if self.scores is None or isinstance(self.scores, Figures):
            return Figures(self.metrics).table()
        parts = (self.likelihood, self.scores)
        return "\n".join(part.table() for part in parts if part is not None)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        found = {} if self.scores is None else self.scores.to_dict()
        ran = {} if self.ran is None else {"ran": dataclasses.asdict(self.ran)}
        return {"rows": len(self.table.rows), **self.metrics, **found, **ran}


def evaluation_needs(task: Task) -> tuple[bool, bool]:
    """Whether the measures of a task need answers, and whether they need the loss."""
    of_loss = [METRICS[name].of_loss for name in task.measures]
    return not all(of_loss), any(of_loss)


def run_task(run: str | Path, **changes: Any) -> Task:
    """The task that a run was tuned on, with settings such as columns changed where given.

    Raises:
      UsageError: not a run directory, or a setting its task has not.
      CheckpointError: its run.json is damaged.
    """
    path = Path(run)
    if not (path / "run.json").is_file():
        raise UsageError(f"{path} is no run directory", "one that gemkit tune made")
    try:
        settings = dict(read_run(path)["task"])
        if (name := settings.pop("name")) not in TASKS:
            raise UsageError(f"{path} is a run of the task {name!r}", f"one of {', '.join(TASKS)}")
        task = TASKS[name].from_dict(settings)
    except (KeyError, TypeError, ValueError) as error:
        what = f"{path / 'run.json'} describes no task: {error!r}"
        raise CheckpointError(what, "a run of gemkit tune") from None
    return changed(task, **changes)


def predict_file(
    run: str | Path, file: str | Path, out: str | Path, skip_bad_rows: bool = False,
    probabilities: bool = False, dtype: str | None = None, show_progress: bool | None = None,
    **columns: Any,
) -> Prediction:  # fmt: skip
    """Answers every row of a file with a tuned model: labels, translates, completes, …

    The answer goes into the column the run learnt it from, in place if the file has that column
    and after the others if not: `id, comment` becomes `id, comment, label`.

    Args:
      run: run directory.
      file: table file with the rows.
      out: table file to write; the suffix says the format.
      skip_bad_rows: leave out rows that cannot be used instead of stopping.
      probabilities: add a column `p(answer)` for each answer there may be.
      dtype: of the weights; None is what the run was tuned in.
      show_progress: None shows a bar on a terminal.
      columns: settings of the task that are other than in training, such as `text="comment"`.

    Raises:
      DataError: a file that cannot be read or written, a row that cannot be used.
      CheckpointError: a damaged run, or a base that is not the one it was tuned on.
    """
    check_writable(Path(out))
    task = run_task(run, **columns)
    table = task.read(file, skip_bad_rows, labelled=False)
    task = task.found(table, labelled=False)
    lm = load(run, dtype)
    if skip_bad_rows:
        longest = lm.config.max_positions
        table = task.without_bad_rows(lm.tokenizer, table, longest, labelled=False)
    answers = _answers(lm, task, table, show_progress)
    names, rows = answered_rows(table, answers, task.column, probabilities)
    write_table(out, names, rows, like=table)
    return Prediction(table, answers, task.column, Path(out))


def evaluate_file(
    model: LanguageModel | str | Path, task: Task, file: str | Path, skip_bad_rows: bool = False,
    dtype: str | None = None, show_progress: bool | None = None, run_tests: bool = False,
) -> Evaluation:  # fmt: skip
    """Scores a model on the rows of a file that hold the truth.

    Args:
      model: a loaded model, or any MODEL.
      task: with what it learnt from training rows; that of a plain model takes it from the file.
      file: table file with questions and true answers.
      skip_bad_rows: leave out rows that cannot be used instead of stopping.
      dtype: of the weights, where they are not loaded yet; None as stored.
      show_progress: None shows a bar on a terminal.
      run_tests: run the files that the task "complete" completes, each in a process with limits,
        for pass@1; see `evaluate.execution`. That is code that a model wrote.

    Raises:
      DataError: a file that cannot be read, a row that cannot be used; none that can be run.
      UsageError: files to run of a task that completes none.
    """
    if run_tests and not isinstance(task, Complete):
        raise UsageError(f"--run-tests is nothing to the task {task.name}", "the task complete")
    table = task.read(file, skip_bad_rows)
    task = task.found(table)
    lm = model if isinstance(model, LanguageModel) else load(model, dtype)
    longest = lm.config.max_positions
    if skip_bad_rows:
        table = task.without_bad_rows(lm.tokenizer, table, longest, labelled=True)
    task = task.fitted(table)
    with_answers, with_loss = evaluation_needs(task)
    likelihood = None
    if with_loss:
        examples = task.examples(lm.tokenizer, table, longest)
        likelihood = measure_likelihood(lm, examples).figures(task.measures)
    with_truth = _truth_run(task, table, show_progress) if run_tests else []
    answers = _answers(lm, task, table, show_progress) if with_answers else []
    scores = task.score(answers, table) if with_answers else None
    ran = _run(task, table, answers, with_truth, show_progress) if run_tests else None
    return Evaluation(table, answers, scores, likelihood, ran)


def answered_rows(
    table: Table, answers: Sequence[Answer], column: str, probabilities: bool
) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of a table with the answers in `column`, and with their probabilities."""
    known = answers[0].probabilities if probabilities and answers else {}
    shares = {answer: f"p({answer})" for answer in known}
    columns = [*table.columns]
    columns += [name for name in (column, *shares.values()) if name not in table.columns]
    rows = []
    for row, answer in zip(table.rows, answers, strict=True):
        figures = {name: f"{answer.probabilities[one]:.6f}" for one, name in shares.items()}
        rows.append({**row, column: answer.text, **figures})
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


def _answers(lm: LanguageModel, task: Task, table: Table, show: bool | None) -> list[Answer]:
    with progress("answering", show) as update:
        return task.predict(lm, table, lambda done, total: update(done, total, ""))


def _truth_run(task: Task, table: Table, show: bool | None) -> list[str]:
    """Why each row's file does not pass with the true answer, "" where it does."""
    with progress("running the files as they are", show) as update:
        found = failures(
            _programs(task, table, None), progress=lambda done, total: update(done, total, "")
        )
    if all(found):
        raise DataError(
            f"{table.path}: no file runs even with the true answer, the first: {found[0]}",
            "Python files that run by themselves",
        )  # fmt: skip
    return found


def _run(
    task: Task, table: Table, answers: Sequence[Answer], with_truth: Sequence[str],
    show: bool | None,
) -> Passed:  # fmt: skip
    with progress("running the completed files", show) as update:
        return passed(
            _programs(task, table, answers), with_truth,
            progress=lambda done, total: update(done, total, ""),
        )  # fmt: skip


def _programs(
    task: Task, table: Table, answers: Sequence[Answer] | None
) -> list[Program | None]:
    """Each row's completed file, which imports what lies around the file that was read."""
    assert isinstance(task, Complete)
    root = table.path.resolve()

    def folders(row: dict[str, Any]) -> tuple[str, ...]:
        if is_table(root):
            return ()
        own = (root / row["path"]).parent if root.is_dir() else root.parent
        return (str(own), str(root)) if root.is_dir() else (str(own),)

    return [
        None if text is None else Program(text, folders(row))
        for row, text in zip(table.rows, task.programs(table, answers), strict=True)
    ]
