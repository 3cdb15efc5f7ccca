"""`gemkit.tune(resume=True)`: what a run directory holds on the way, and what is refused."""

import json
from pathlib import Path
from typing import Any

import optax
import pytest
import small

import gemkit
from gemkit.errors import UsageError
from gemkit.language_model import LanguageModel
from gemkit.tasks import Classify
from gemkit.train import checkpoints
from gemkit.train.loop import Record

LORA = gemkit.Lora(rank=small.RANK)


class Cut(BaseException):
    """Stands for a kill: nothing on its way is caught."""


@pytest.fixture(scope="module")
def lm(small_model: Path) -> LanguageModel:
    return gemkit.load(small_model)


def tuned(lm: LanguageModel, small_run: Any, out: Path, **more: Any) -> Any:
    settings: dict[str, Any] = {"lora": LORA, "checkpoint_every": 4} | small.SETTINGS | more
    return gemkit.tune(lm, Classify(), small_run.data, small_run.valid, out=out, **settings)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def cut_after(patch: pytest.MonkeyPatch, saves: int) -> None:
    save, made = checkpoints.Checkpoints.save, []

    def cutting(self: Any, state: Any, record: Record) -> None:
        save(self, state, record)
        made.append(record)
        if len(made) == saves:
            raise Cut

    patch.setattr(checkpoints.Checkpoints, "save", cutting)


def test_a_run_that_was_cut_off(
    lm: LanguageModel, small_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    out = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Cut):
        cut_after(patch, 2)
        tuned(lm, small_run, out)
    assert names(out) == ["checkpoints"]
    with pytest.raises(UsageError, match="holds a run that was cut off.*pass --resume"):
        tuned(lm, small_run, out)
    with pytest.raises(UsageError, match="whose seed was 0, now 1"):
        tuned(lm, small_run, out, resume=True, seed=1)
    result = tuned(lm, small_run, out, resume=True)
    assert caplog.messages == ["going on after step 8"]

    def unhurried(rows: list[dict[str, float]]) -> list[dict[str, float]]:
        return [
            {k: v for k, v in row.items() if k not in ("seconds", "peak_memory")} for row in rows
        ]

    assert unhurried(result.history) == unhurried(small_run.result.history)
    assert (out / "predictions.tsv").read_bytes() == (
        small_run.path / "predictions.tsv"
    ).read_bytes()
    adapter = "adapter/adapter_model.safetensors"
    assert (out / adapter).read_bytes() == (small_run.path / adapter).read_bytes()
    assert names(out) == sorted([*names(small_run.path), "checkpoints"])
    assert len(names(out / "checkpoints")) == 1
    assert gemkit.load(out).adapter is not None
    with pytest.raises(UsageError, match="not an empty folder"):
        tuned(lm, small_run, out)
    longer = tuned(lm, small_run, out, resume=True, epochs=9)
    assert longer.history[: len(result.history)] == result.history
    assert len(longer.history) > len(result.history)
    assert json.loads((out / "run.json").read_text())["settings"]["epochs"] == 9
    assert names(tmp_path) == ["run"]


def test_nothing_is_kept_unasked(small_run: Any, lm: LanguageModel) -> None:
    assert "checkpoints" not in names(small_run.path)
    with pytest.raises(UsageError, match="finished run without checkpoints"):
        tuned(lm, small_run, small_run.path, resume=True)


def test_what_cannot_be_asked(lm: LanguageModel, small_run: Any, tmp_path: Path) -> None:
    for settings in ({"resume": True}, {"checkpoint_every": 2}):
        with pytest.raises(UsageError, match="checkpoints without out"):
            gemkit.tune(lm, Classify(), small_run.data, **settings)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="learning_rate is given beside an optax optimizer"):
        tuned(lm, small_run, tmp_path / "run", optimizer=optax.sgd(0.1))
    quantized = gemkit.load(lm.name, quantize="int8")
    with pytest.raises(UsageError, match="is in int8, which cannot be trained"):
        tuned(quantized, small_run, tmp_path / "run", full=True, lora=None)


def test_over_four_bits(lm: LanguageModel, small_run: Any, tmp_path: Path) -> None:
    base, out = gemkit.load(lm.name, quantize="int4"), tmp_path / "run"
    result = tuned(base, small_run, out, checkpoint_every=None)
    losses = [row["loss"] for row in result.history if "loss" in row]
    assert losses[-1] < 0.3 * losses[0]
    assert json.loads((out / "run.json").read_text())["settings"]["quantize"] == "int4"
    again = gemkit.load(out)
    assert again.base_hash == base.base_hash != lm.base_hash
    with pytest.raises(UsageError, match="was tuned over int4"):
        gemkit.load(out, quantize="int8")
