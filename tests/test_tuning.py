"""`gemkit.tune` end to end: what is learnt, what the run directory holds, what is refused."""

import hashlib
import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small
from safetensors.numpy import load_file

import gemkit
from gemkit.errors import CheckpointError, DataError, TrainingError, UsageError
from gemkit.language_model import LanguageModel
from gemkit.metrics.labels import score_labels
from gemkit.tasks import Classify
from gemkit.train.data import read_table
from gemkit.train.loop import FitResult

LORA = gemkit.Lora(rank=small.RANK)


@pytest.fixture(scope="module")
def lm(small_model: Path) -> LanguageModel:
    return gemkit.load(small_model)


def described(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text("utf-8"))


def test_the_task_is_learnt(small_run: Any) -> None:
    result = small_run.result
    assert result.metrics["accuracy"] == 1.0 > result.metrics["accuracy_before"]
    steps = [row for row in result.history if "loss" in row]
    assert steps[-1]["loss"] < 0.2 * steps[0]["loss"]
    assert [row["step"] for row in steps] == list(range(1, len(steps) + 1))
    assert {"epoch", "accuracy", "learning_rate", "tokens", "seconds"} <= steps[0].keys()
    assert [row["valid_accuracy"] for row in result.history if "valid_loss" in row] == [1.0]


def test_the_run_directory(small_run: Any) -> None:
    assert sorted(path.name for path in small_run.path.iterdir()) == [
        "adapter", "metrics.jsonl", "predictions.tsv", "report.html", "run.json",
    ]  # fmt: skip
    lines = (small_run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == small_run.result.history
    page = (small_run.path / "report.html").read_text("utf-8")
    assert "<svg" in page and "Confusion" in page and not re.search(r"(src|href)=.https?:", page)
    modes = {path.stat().st_mode & 0o077 for path in small_run.path.rglob("*") if path.is_file()}
    assert len(modes) == 1


def test_run_json_holds_what_repeating_takes(small_run: Any, lm: LanguageModel) -> None:
    run = described(small_run.path)
    assert run["task"] == {
        "name": "classify", "text": "comment", "label": "label", "labels": ["bad", "good"],
        "template": "classify",
    }  # fmt: skip
    assert run["model"] == {"name": lm.name, "sha256": lm.base_hash, "path": lm.name}
    for name, path in {"train": small_run.data, "valid": small_run.valid}.items():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert run["data"][name] == {"path": str(path), "sha256": digest}
    assert run["rows"] == {"train": 48, "valid": 12, "skipped": 0}
    settings = run["settings"]
    for name in ("epochs", "batch_tokens", "valid_every"):
        assert settings[name] == small.SETTINGS[name]
    assert settings["optimizer"]["learning_rate"] == small.SETTINGS["learning_rate"]
    assert settings["lora"]["rank"] == small.RANK
    assert {"seed", "metric", "patience", "remat", "max_length", "valid_share", "skip_bad_rows",
            "dtype"} <= settings.keys()  # fmt: skip
    assert {"python", "jax", "jaxlib", "numpy"} <= run["versions"].keys()
    assert run["gemkit"] == gemkit.__version__
    assert run["metrics"] == small_run.result.metrics
    assert (run["seed"], run["stopped"]) == (0, "")
    assert run["best_step"] == len([row for row in small_run.result.history if "loss" in row])


def test_predictions_are_the_validation_rows(small_run: Any) -> None:
    table, valid = read_table(small_run.path / "predictions.tsv"), read_table(small_run.valid)
    assert table.columns == ("id", "comment", "label", "answer", "p(bad)", "p(good)")
    for row, original in zip(table.rows, valid.rows, strict=True):
        assert {name: row[name] for name in valid.columns} == original
        assert float(row["p(bad)"]) + float(row["p(good)"]) == pytest.approx(1, abs=2e-6)
    scores = score_labels(table.texts("label"), table.texts("answer"))
    assert scores.accuracy == small_run.result.metrics["accuracy"]
    assert scores.macro_f1 == small_run.result.metrics["macro_f1"]


def test_a_loaded_run_is_the_result(small_run: Any) -> None:
    loaded, valid = gemkit.load(small_run.path), read_table(small_run.valid)
    task = Classify("comment", "label", ("bad", "good"))
    assert task.predict(loaded, valid) == task.predict(small_run.result.lm, valid)
    assert loaded.lora == gemkit.Lora(small.RANK, float(small.RANK), tuple(loaded.adapter or ()))


def test_the_model_that_was_tuned_is_unchanged(
    small_model: Path, small_run: Any, lm: LanguageModel
) -> None:
    assert small_run.result.lm.base_hash == lm.base_hash
    assert described(small_run.path)["model"]["sha256"] == lm.base_hash


def test_the_adapter_is_one_for_peft(small_run: Any, lm: LanguageModel) -> None:
    folder = small_run.path / "adapter"
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 8, 8)
    assert config["target_modules"] == [
        "down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"
    ]  # fmt: skip
    tensors = load_file(folder / "adapter_model.safetensors")
    assert len(tensors) == 2 * 7 * small.CONFIG.num_layers
    name = "base_model.model.model.layers.1.mlp.down_proj.lora_{}.weight"
    a, b = tensors[name.format("A")], tensors[name.format("B")]
    assert (a.shape, b.shape) == ((8, 48), (32, 8))
    merged = np.asarray(lm.base["layers"][1]["mlp"]["down"]) + b @ a
    small_run.result.lm.save(small_run.path.parent / "merged")
    ours = gemkit.load(small_run.path.parent / "merged").base["layers"][1]["mlp"]["down"]
    np.testing.assert_allclose(ours, merged, atol=1e-5)


def test_another_base_is_refused(small_run: Any, small_model: Path, tmp_path: Path) -> None:
    shutil.copytree(small_run.path, tmp_path / "run")
    base = gemkit.load(small_model)
    base.base["final_norm"] = base.base["final_norm"] * 1.001
    base.save(tmp_path / "base")
    run = described(tmp_path / "run")
    run["model"]["name"] = str(tmp_path / "base")
    (tmp_path / "run" / "run.json").write_text(json.dumps(run))
    with pytest.raises(CheckpointError, match="was trained on a base with hash"):
        gemkit.load(tmp_path / "run")


def test_a_moved_run_finds_its_base(
    small_model: Path, small_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(small_run.path, tmp_path / "run")
    run = described(tmp_path / "run")
    run["model"]["name"] = "small"
    (tmp_path / "run" / "run.json").write_text(json.dumps(run))
    assert gemkit.load(tmp_path / "run").adapter is not None


def test_without_validation_the_last_weights_count(lm: LanguageModel, small_run: Any) -> None:
    result = gemkit.tune(
        lm, Classify(), small_run.data, valid_share=0, lora=LORA, **small.SETTINGS
    )
    assert (result.metrics, result.out) == ({}, None)
    assert [row["loss"] for row in result.history] == [
        row["loss"] for row in small_run.result.history if "loss" in row
    ]
    assert result.lm.adapter is not None and small_run.result.lm.adapter is not None
    for path, pair in result.lm.adapter.items():
        np.testing.assert_array_equal(pair["b"], small_run.result.lm.adapter[path]["b"])


def test_a_share_is_split_off(
    lm: LanguageModel, small_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gemkit.tuning.session.fit", lambda *given, **_: FitResult(given[3], [], 0))
    result = gemkit.tune(
        lm, Classify(), small_run.data, valid_share=0.25, lora=LORA, out=tmp_path / "run",
        **small.SETTINGS,
    )  # fmt: skip
    assert result.metrics["rows"] == 12
    table = read_table(tmp_path / "run" / "predictions.tsv")
    assert table.texts("label").count("good") == 6
    assert described(tmp_path / "run")["data"].keys() == {"train"}


def test_it_stops_when_nothing_is_gained(
    lm: LanguageModel, small_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is made to rise."""
    losses = itertools.count(1.0)
    monkeypatch.setattr(
        "gemkit.tuning.session.make_loss_measure", lambda *_: lambda _: {"valid_loss": next(losses)}
    )
    result = gemkit.tune(
        lm, Classify(), small_run.data, small_run.valid, lora=LORA, patience=1,
        metric="valid_loss", out=tmp_path / "run", **small.SETTINGS | {"valid_every": 2},
    )  # fmt: skip
    assert result.stopped == "no improvement"
    assert [row["step"] for row in result.history if "valid_loss" in row] == [2, 4]
    run = described(tmp_path / "run")
    assert (run["stopped"], run["best_step"]) == ("no improvement", 2)


def test_a_loss_that_is_no_number_saves_nothing(
    lm: LanguageModel, small_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise TrainingError("the loss is nan at step 1")

    monkeypatch.setattr("gemkit.tuning.session.fit", broken)
    with pytest.raises(TrainingError):
        gemkit.tune(
            lm, Classify(), small_run.data, valid_share=0, out=tmp_path / "new" / "run"
        )
    assert not (tmp_path / "new" / "run").exists()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_settings_that_contradict(lm: LanguageModel, small_run: Any, tmp_path: Path) -> None:
    refused: dict[str, dict[str, Any]] = {
        "both full and lora": {"full": True, "lora": LORA},
        "metric is 'bleu'": {"metric": "bleu"},
        "max_length is 0": {"max_length": 0},
        "seed is -1": {"seed": -1},
    }
    for said, settings in refused.items():
        with pytest.raises(UsageError, match=said):
            gemkit.tune(lm, Classify(), small_run.data, out=tmp_path / "run", **settings)
    with pytest.raises(UsageError, match="already carries an adapter"):
        gemkit.tune(small_run.result.lm, Classify(), small_run.data, out=tmp_path / "run")
    with pytest.raises(DataError, match=r"the text is \d+ tokens long with its prompt.* at most 4"):
        gemkit.tune(lm, Classify(), small_run.data, max_length=6, out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_may_become_the_run(
    lm: LanguageModel, small_run: Any, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    gemkit.tune(
        lm, Classify(), small_run.data, valid_share=0, lora=LORA, out=tmp_path / "run",
        **small.SETTINGS,
    )  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "adapter", "metrics.jsonl", "report.html", "run.json"
    ]  # fmt: skip
