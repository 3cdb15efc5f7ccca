"""`gemkit.tune`: task + model + data → a tuned model and a run directory."""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import platform
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from gemkit import __version__
from gemkit.adapt.lora import Lora, init_adapter
from gemkit.checkpoint.hub import locate
from gemkit.checkpoint.load import save_checkpoint
from gemkit.checkpoint.peft import write_adapter
from gemkit.errors import DataError, ModelNotFoundError, UsageError
from gemkit.evaluate.metrics import ClassificationScores, score_labels
from gemkit.evaluate.report import write_report
from gemkit.language_model import Choice, LanguageModel
from gemkit.progress import progress
from gemkit.tasks.classify import Classify
from gemkit.train.data import Table, file_hash, read_table, split_rows, write_table
from gemkit.train.loop import FitResult, FitSettings, Measures, fit, make_loss_measure
from gemkit.train.optimizer import OptimizerSettings

VERSIONED = ("jax", "jaxlib", "numpy", "optax", "sentencepiece", "safetensors")


@dataclasses.dataclass(frozen=True)
class TuneResult:
    """What `tune` returns.

    Attributes:
      lm: the model with its adapter (or its new weights).
      history: per step loss, tokens, seconds; per validation the measures.
      metrics: of the validation rows, before and after.
      out: the run directory, None if none was asked for.
      stopped: "" or why it ended early.
    """

    lm: LanguageModel
    history: list[dict[str, float]]
    metrics: dict[str, float]
    out: Path | None
    stopped: str = ""


@dataclasses.dataclass(frozen=True)
class _Split:
    train: Table
    valid: Table | None


def tune(
    lm: LanguageModel, task: Classify, data: str | Path, valid: str | Path | None = None, *,
    valid_share: float = 0.1, lora: Lora | None = None, full: bool = False, epochs: float = 8,
    batch_tokens: int = 1024, learning_rate: float | None = None, optimizer: Any = "adamw",
    schedule: Any = "cosine", warmup: float = 0.1, weight_decay: float = 0.0,
    clip_norm: float | None = 1.0, seed: int = 0, max_length: int | None = None,
    valid_every: int | None = None, patience: int | None = None, metric: str = "valid_accuracy",
    remat: bool = False, skip_bad_rows: bool = False, out: str | Path | None = None,
    show_progress: bool | None = None,
) -> TuneResult:  # fmt: skip
    """Tunes a model on a labelled file.

    Args:
      lm: the model; it is not changed.
      task: what to learn, such as `gemkit.tasks.Classify(text="comment", label="label")`.
      data: table file with the training rows.
      valid: table file with validation rows; None splits off `valid_share` of `data` (0: none).
      lora: adapter settings; None is rank 4 on every linear layer.
      full: train all weights instead.
      epochs, batch_tokens, valid_every, patience, metric, seed, remat: see
        `train.loop.FitSettings`.
      learning_rate: peak; None is 5e-3 for adapters, 5e-4 for all weights.
      optimizer, schedule, warmup, weight_decay, clip_norm: see
        `train.optimizer.OptimizerSettings`.
      max_length: most tokens of an example; None is the model's context.
      skip_bad_rows: leave out rows that cannot be read instead of stopping.
      out: run directory to write; must not exist or be empty.
      show_progress: None shows a bar on a terminal.

    Returns:
      The tuned model; the weights of the best validation by `metric`.

    Raises:
      DataError: rows that cannot be used. UsageError: settings that cannot.
      TrainingError: the loss is not a number.
    """
    settings = FitSettings(epochs, batch_tokens, seed, valid_every, patience, metric, remat)
    rate = learning_rate if learning_rate is not None else (5e-4 if full else 5e-3)
    rule = OptimizerSettings(
        optimizer, rate, schedule, warmup, weight_decay, clip_norm=clip_norm
    )  # fmt: skip
    chosen = None if full else lora or Lora()
    if full and lora is not None:
        raise UsageError("both full and lora are given", "one of them")
    longest = min(max_length or lm.config.max_positions, lm.config.max_positions)
    with _run_folder(out) as folder:
        split, task = _read(task, data, valid, valid_share, seed, skip_bad_rows)
        session = _Session(lm, task, split, chosen, longest, settings, show_progress)
        before = session.predict(lm) if split.valid is not None else None
        result = session.train(rule)
        tuned = session.model(result.trained)
        after = session.predict(tuned) if split.valid is not None else None
        metrics, scores = session.metrics(before, after)
        if folder is not None:
            run = _describe(lm, task, data, valid, settings, rule, chosen, metrics, result)
            _write(folder, run, tuned, chosen, session, result, scores, before, after)
    return TuneResult(
        tuned, result.history, metrics, None if out is None else Path(out), result.stopped
    )  # fmt: skip


class _Session:
    """The parts of one run that several of its steps need."""

    def __init__(
        self, lm: LanguageModel, task: Classify, split: _Split, lora: Lora | None, longest: int,
        settings: FitSettings, show: bool | None,
    ) -> None:  # fmt: skip
        if lm.adapter is not None:
            raise UsageError(
                f"{lm.name} already carries an adapter", "a model without one",
                "save it merged first (gemkit merge), or tune its base",
            )  # fmt: skip
        self.lm, self.task, self.split, self.lora = lm, task, split, lora
        self.settings, self.show = settings, show
        self.examples = task.examples(lm.tokenizer, split.train, longest)
        self.valid_examples = (
            task.examples(lm.tokenizer, split.valid, longest) if split.valid is not None else []
        )

    def train(self, rule: OptimizerSettings) -> FitResult:
        lm, settings = self.lm, self.settings
        trained: Any = (
            jax.tree.map(jnp.copy, lm.base) if self.lora is None
            else init_adapter(lm.config, self.lora, settings.seed)
        )  # fmt: skip
        with progress("tuning", self.show) as update:

            def tell(row: dict[str, float], steps: int) -> None:
                update(int(row["step"]), steps, _remark(row))

            return fit(
                lm.base if self.lora is not None else {}, lm.config, self.lora, trained,
                self.examples, settings, rule, self._measure(), tell,
            )  # fmt: skip

    def _measure(self) -> Any:
        if self.split.valid is None:
            return None
        valid, truth = self.split.valid, self.task.truth(self.split.valid)
        frozen = self.lm.base if self.lora is not None else {}
        loss = make_loss_measure(
            frozen, self.lm.config, self.lora, self.valid_examples, self.settings.batch_tokens
        )

        def measure(trained: Any) -> Measures:
            answers = [c.choice for c in self.task.predict(self.model(trained), valid)]
            scores = score_labels(truth, answers, self.task.labels)
            return {
                **loss(trained), "valid_accuracy": scores.accuracy,
                "valid_macro_f1": scores.macro_f1,
            }  # fmt: skip

        return measure

    def model(self, trained: Any) -> LanguageModel:
        lm = self.lm
        if self.lora is None:
            return LanguageModel(lm.name, lm.config, trained, lm.optional_tokenizer)
        return LanguageModel(lm.name, lm.config, lm.base, lm.optional_tokenizer, self.lora, trained)

    def predict(self, lm: LanguageModel) -> list[Choice]:
        assert self.split.valid is not None
        with progress("labelling validation rows", self.show) as update:
            return self.task.predict(lm, self.split.valid, lambda n, total: update(n, total, ""))

    def metrics(
        self, before: list[Choice] | None, after: list[Choice] | None
    ) -> tuple[dict[str, float], ClassificationScores | None]:
        if self.split.valid is None or before is None or after is None:
            return {}, None
        truth = self.task.truth(self.split.valid)
        first = score_labels(truth, [c.choice for c in before], self.task.labels)
        scores = score_labels(truth, [c.choice for c in after], self.task.labels)
        found = {
            "accuracy": scores.accuracy, "macro_f1": scores.macro_f1,
            "accuracy_before": first.accuracy, "rows": scores.count,
        }  # fmt: skip
        return found, scores


def _read(
    task: Classify, data: str | Path, valid: str | Path | None, share: float, seed: int,
    skip_bad_rows: bool,
) -> tuple[_Split, Classify]:  # fmt: skip
    table = read_table(data, skip_bad_rows=skip_bad_rows)
    task = task.fitted(table)
    if valid is not None:
        other = read_table(valid, skip_bad_rows=skip_bad_rows)
        task.for_texts(other)
        return _Split(table, other), task
    if share == 0:
        return _Split(table, None), task
    kept, held = split_rows(task.truth(table), share, seed)
    return _Split(_rows(table, kept), _rows(table, held)), task


def _rows(table: Table, chosen: list[int]) -> Table:
    return dataclasses.replace(
        table, rows=[table.rows[i] for i in chosen], lines=[table.lines[i] for i in chosen]
    )


def _remark(row: dict[str, float]) -> str:
    if "loss" not in row:
        measured = {k.removeprefix("valid_"): v for k, v in row.items() if k.startswith("valid_")}
        return "  ".join(f"{name} {value:.3f}" for name, value in measured.items())
    speed = row["tokens"] / max(row["seconds"], 1e-9)
    return f"loss {row['loss']:.3f}  {speed:,.0f} tokens/s"


def _describe(
    lm: LanguageModel, task: Classify, data: str | Path, valid: str | Path | None,
    settings: FitSettings, rule: OptimizerSettings, lora: Lora | None,
    metrics: dict[str, float], result: FitResult,
) -> dict[str, Any]:  # fmt: skip
    files = {"train": data} if valid is None else {"train": data, "valid": valid}
    return {
        "gemkit": __version__,
        "task": {"name": task.name, **task.to_dict()},
        "model": {"name": lm.name, "sha256": lm.base_hash, "path": _model_path(lm.name)},
        "data": {
            name: {"path": str(Path(path).resolve()), "sha256": file_hash(path)}
            for name, path in files.items()
        },
        "settings": {
            **dataclasses.asdict(settings), "optimizer": dataclasses.asdict(rule),
            "lora": None if lora is None else dataclasses.asdict(lora),
            "dtype": lm.base["embed"].dtype.name,
        },
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in VERSIONED},
        },
        "seed": settings.seed, "metrics": metrics, "best_step": result.best_step,
        "stopped": result.stopped,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


def _model_path(name: str) -> str:
    try:
        return str(locate(name).resolve())
    except ModelNotFoundError:
        return name


@contextlib.contextmanager
def _run_folder(out: str | Path | None) -> Iterator[Path | None]:
    """A temporary folder that takes the run directory's place when all went well."""
    if out is None:
        yield None
        return
    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(
            f"{target} exists and is not an empty folder", "a new run directory", "name another"
        )
    unfinished = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        if target.exists():
            target.rmdir()
        unfinished.rename(target)
    except OSError as error:
        raise DataError(
            f"cannot write {target}: {error.strerror or error}", "a folder with room"
        ) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(
    folder: Path, run: dict[str, Any], tuned: LanguageModel, lora: Lora | None,
    session: _Session, result: FitResult, scores: ClassificationScores | None,
    before: list[Choice] | None, after: list[Choice] | None,
) -> None:  # fmt: skip
    if lora is None:
        save_checkpoint(folder / "model", tuned.config, tuned.base, tuned.optional_tokenizer)
    else:
        (folder / "adapter").mkdir()
        write_adapter(
            folder / "adapter", tuned.config, lora, result.trained, tuned.name,
            run["model"]["sha256"],
        )  # fmt: skip
    lines = "".join(json.dumps(row) + "\n" for row in result.history)
    (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    (folder / "run.json").write_text(
        json.dumps(run, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    samples = []
    if session.split.valid is not None and before is not None and after is not None:
        valid, task = session.split.valid, session.task
        assert task.text is not None
        texts, truth = valid.texts(task.text), task.truth(valid)
        samples = [
            {"text": text, "truth": label, "before": b.choice, "after": a.choice,
             "before_probability": max(b.probabilities), "after_probability": max(a.probabilities)}
            for text, label, b, a in zip(texts, truth, before, after, strict=True)
        ]  # fmt: skip
        rows, columns = answered_rows(task, valid, after)
        write_table(folder / "predictions.tsv", columns, rows)
    write_report(folder, run, result.history, scores, samples)


def answered_rows(
    task: Classify, table: Table, answers: list[Choice]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The table's rows with `answer` and the probability of each label as further columns."""
    shares = [f"p({label})" for label in task.labels]
    rows = [
        {**row, "answer": found.choice,
         **{name: f"{p:.6f}" for name, p in zip(shares, found.probabilities, strict=True)}}
        for row, found in zip(table.rows, answers, strict=True)
    ]  # fmt: skip
    return rows, [*table.columns, "answer", *shares]
