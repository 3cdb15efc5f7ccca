"""`gemkit.tune`: task + model + data → a tuned model and a run directory."""

import dataclasses
import inspect
import logging
from pathlib import Path
from typing import Any

from gemkit.errors import UsageError
from gemkit.evaluate.run_folder import CHECKPOINTS, new_run_folder
from gemkit.evaluate.tensorboard import event_files
from gemkit.language_model import LanguageModel
from gemkit.tasks import Task, make_task
from gemkit.train.checkpoints import Checkpoints
from gemkit.train.table_files import BadRow
from gemkit.tuning.recipe import DEFAULTS, make_recipe
from gemkit.tuning.record import describe, identity, metrics_of, write_run
from gemkit.tuning.session import Session, read_split

__all__ = ["TuneResult", "tune"]


@dataclasses.dataclass(frozen=True)
class TuneResult:
    """What `tune` returns.

    Attributes:
      lm: the model with its adapter (or its new weights).
      history: per step loss, tokens, seconds; per validation the measures.
      metrics: of the validation rows, before and after.
      out: the run directory, None if none was asked for.
      stopped: "" or why it ended early.
      skipped: the rows left out, those of both files.
    """

    lm: LanguageModel
    history: list[dict[str, float]]
    metrics: dict[str, float]
    out: Path | None
    stopped: str = ""
    skipped: tuple[BadRow, ...] = ()


def tune(
    lm: LanguageModel, task: Task | str, data: str | Path, valid: str | Path | None = None, *,
    out: str | Path | None = None, show_progress: bool | None = None, tensorboard: bool = False,
    resume: bool = False, checkpoint_every: int | None = None, **settings: Any,
) -> TuneResult:  # fmt: skip
    """Teaches a model a task from a file.

    Args:
      lm: the model; it is not changed.
      task: what to learn, such as `gemkit.tasks.Classify(text="comment", label="label")`; a name
        is the task with its usual settings.
      data: table file with the training rows, or what else the task reads.
      valid: file with validation rows; None splits off `valid_share` of `data` (0: none).
      out: run directory to write; must not exist or be empty, but for `resume`.
      show_progress: None shows a bar on a terminal.
      tensorboard: write event files into the run as it goes; wants tensorboardX.
      resume: go on with the run in `out` where it was cut off, from its newest whole checkpoint,
        as if it had not been; from the beginning if there is none. Model, data and settings must
        be the same, `epochs` may be more.
        What is found and what goes wrong is said to the logger "gemkit".
      checkpoint_every: steps between checkpoints, and the last state is kept for more epochs;
        None writes one every two minutes and where Ctrl-C ends the run, and keeps none of a run
        that came to its end.
      settings: how to train: `lora` or `full`, `epochs`, `batch_tokens`, `learning_rate`, …; see
        `tuning.recipe.Recipe`, `train.loop.FitSettings`, `train.optimizer.OptimizerSettings`.

    Returns:
      The tuned model; the weights of the best validation by `metric`.

    Raises:
      DataError: rows that cannot be used. UsageError: settings that cannot.
      TrainingError: the loss is not a number.
    """
    task = make_task(task) if isinstance(task, str) else task
    recipe = make_recipe(task, **settings)
    if out is None and (tensorboard or resume or checkpoint_every is not None):
        raise UsageError("tensorboard or checkpoints without out", "the folder they lie in")
    files = {"train": Path(data)} | ({} if valid is None else {"valid": Path(valid)})
    with (
        new_run_folder(out, resume) as folder,
        event_files(folder / "tensorboard" if tensorboard and folder else None) as watch,
    ):
        split, task = read_split(lm, task, data, valid, recipe)
        session = Session(lm, task, split, recipe, show_progress, watch)
        keeper = None
        if out is not None:
            keeper = Checkpoints(
                Path(out) / CHECKPOINTS, identity(session, files), checkpoint_every, resume,
                logging.getLogger("gemkit").warning,
            )
        outcome = session.run(keeper)
        if folder is not None:
            write_run(folder, describe(session, outcome, files), session, outcome)
    if keeper is not None:
        cut_off = outcome.result.stopped == "interrupted"
        keeper.finish(keep=cut_off or checkpoint_every is not None)
    return TuneResult(
        outcome.lm, outcome.result.history, metrics_of(session, outcome),
        None if out is None else Path(out), outcome.result.stopped, split.skipped,
    )  # fmt: skip


def _with_settings(function: Any) -> inspect.Signature:
    """The signature of a function with the settings by their names, for help."""
    own = inspect.signature(function)
    named = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    keyword = inspect.Parameter.KEYWORD_ONLY
    more = [inspect.Parameter(name, keyword, default=value) for name, value in DEFAULTS.items()]
    return own.replace(parameters=[*named, *more])


setattr(tune, "__signature__", _with_settings(tune))  # noqa: B010
