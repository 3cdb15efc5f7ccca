"""What a run directory holds: run.json, the weights, metrics, predictions, the report."""

import datetime
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from gemkit import __version__
from gemkit.adapt.quantize import method_of
from gemkit.checkpoint.hub.handles import locate
from gemkit.checkpoint.peft.lora import write_adapter
from gemkit.checkpoint.save import save_checkpoint
from gemkit.errors import ModelNotFoundError
from gemkit.evaluate.report import write_report
from gemkit.evaluate.run import answered_rows
from gemkit.metrics.labels import ClassificationScores
from gemkit.tasks.files import SOURCE_SUFFIXES, TEXT_SUFFIXES, files_below
from gemkit.train.data import Table, file_hash, write_table
from gemkit.tuning.session import Outcome, Session

VERSIONED = ("jax", "jaxlib", "numpy", "optax", "sentencepiece", "safetensors")


def describe(session: Session, outcome: Outcome, files: Mapping[str, Path]) -> dict[str, Any]:
    """What run.json says: all that repeating takes, and what came out.

    Args:
      files: data files by what they are for.
    """
    lm, task, split = session.lm, session.task, session.split
    valid = len(split.valid.rows) if split.valid is not None else 0
    return {
        "gemkit": __version__,
        "task": {"name": task.name, **task.to_dict()},
        "model": {"name": lm.name, "sha256": lm.base_hash, "path": _model_path(lm.name)},
        "data": {
            name: {"path": str(path.resolve()), "sha256": data_hash(path)}
            for name, path in files.items()
        },
        "rows": {
            "train": len(split.train.rows), "valid": valid, "skipped": len(split.skipped),
        },
        "settings": {
            **session.recipe.to_dict(), "dtype": jnp.dtype(lm.base["embed"].dtype).name,
            "quantize": method_of(lm.base),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in VERSIONED},
        },
        "seed": session.recipe.fit.seed,
        "metrics": metrics_of(session, outcome),
        "best_step": outcome.result.best_step,
        "stopped": outcome.result.stopped,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


def identity(session: Session, files: Mapping[str, Path]) -> dict[str, Any]:
    """What must be the same for a run to go on; more epochs are no other run."""
    lm, settings = session.lm, session.recipe.to_dict()
    settings.pop("epochs")
    return {
        "model": lm.base_hash, "task": {"name": session.task.name, **session.task.to_dict()},
        **{f"{name} data": data_hash(path) for name, path in files.items()}, **settings,
    }  # fmt: skip


def metrics_of(session: Session, outcome: Outcome) -> dict[str, float]:
    """The figures after and before, the number of validation rows and how many were answered."""
    valid, answered = session.split.valid, session.answered
    if valid is None or answered is None:
        return {}
    found = {**outcome.metrics, "rows": len(valid.rows)}
    if session.with_answers and len(answered.rows) < len(valid.rows):
        found["answered"] = len(answered.rows)
    return found


def data_hash(path: Path) -> str:
    """The SHA-256 of a file, or of the names and hashes of the files in a folder."""
    if not path.is_dir():
        return file_hash(path)
    found = hashlib.sha256()
    for file in files_below(path, SOURCE_SUFFIXES | TEXT_SUFFIXES):
        found.update(f"{file.relative_to(path).as_posix()} {file_hash(file)}\n".encode())
    return found.hexdigest()


def write_run(
    folder: Path, run: Mapping[str, Any], session: Session, outcome: Outcome
) -> None:
    """Fills an empty folder."""
    tuned, result = outcome.lm, outcome.result
    if tuned.lora is None or tuned.adapter is None:
        save_checkpoint(folder / "model", tuned.config, tuned.base, tuned.optional_tokenizer)
    else:
        (folder / "adapter").mkdir()
        write_adapter(
            folder / "adapter", tuned.config, tuned.lora, tuned.adapter, tuned.name,
            run["model"]["sha256"],
        )  # fmt: skip
    lines = "".join(json.dumps(row) + "\n" for row in result.history)
    (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    text = json.dumps(run, indent=2, ensure_ascii=False) + "\n"
    (folder / "run.json").write_text(text, encoding="utf-8")
    scores = outcome.after.scores if outcome.after is not None else None
    samples = []
    if scores is not None and session.answered is not None and outcome.after is not None:
        samples = _samples(session, outcome, session.answered)
        columns, rows = answered_rows(session.answered, outcome.after.answers, "answer", True)
        write_table(folder / "predictions.tsv", columns, rows)
    labelled = scores if isinstance(scores, ClassificationScores) else None
    write_report(folder, run, result.history, labelled, samples)


def _samples(session: Session, outcome: Outcome, answered: Table) -> list[dict[str, Any]]:
    assert outcome.before is not None and outcome.after is not None
    rows = zip(
        session.task.shown(answered), outcome.before.answers, outcome.after.answers, strict=True
    )
    return [
        {
            "text": text, "truth": truth, "before": before.text, "after": after.text,
            "before_probability": before.probability, "after_probability": after.probability,
        }
        for (text, truth), before, after in rows
    ]  # fmt: skip


def _model_path(name: str) -> str:
    try:
        return str(locate(name).resolve())
    except ModelNotFoundError:
        return name
