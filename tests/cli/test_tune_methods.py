"""`gemkit tune` with the flags of methods, and a run that goes on."""

import json
from pathlib import Path
from typing import Any

import small

METHOD = {
    "quantize": "int4", "accumulate": 2, "ema": 0.9, "remat": "layer", "optimizer": "sgd",
    "checkpoint_every": 3, "epochs": 2, "rank": small.RANK,
}  # fmt: skip


def arguments(small_run: Any, small_model: Path, out: Path, **more: Any) -> list[Any]:
    return [
        "tune", "classify", "--model", small_model, "--data", small_run.data,
        "--valid-share", 0, "--out", out, "--rslora", *small.flags(**{**METHOD, **more}),
    ]  # fmt: skip


def losses_of(run: Path) -> list[float]:
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_methods_as_flags_and_a_run_that_goes_on(
    call: Any, small_run: Any, small_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    first = call(*arguments(small_run, small_model, out))
    assert first.code == 0, first.err
    settings = json.loads((out / "run.json").read_text("utf-8"))["settings"]
    for name in ("quantize", "accumulate", "ema", "remat"):
        assert settings[name] == METHOD[name]
    assert settings["lora"]["rslora"] is True
    losses = losses_of(out)
    again = call(*arguments(small_run, small_model, out))
    assert again.code == 2 and "not an empty folder" in again.err
    more = call(*arguments(small_run, small_model, out, epochs=3), "--resume")
    assert more.code == 0, more.err
    longer = losses_of(out)
    assert longer[: len(losses)] == losses and len(longer) > len(losses)


KERAS = """padding = "40,2"
optimizer = "keras_adamw"
learning-rate = 5e-3
weight-decay = 0.01
schedule = "constant"
warmup = 0
clip-norm = inf
rank = 3
targets = ["q", "v"]
form = "keras"
epochs = 2
valid-share = 0
"""


def test_a_tutorial_of_keras_nlp_as_a_file(
    call: Any, small_run: Any, small_model: Path, tmp_path: Path
) -> None:
    """The same run as by the Python interface, and what Keras prints of its epochs."""
    import gemkit
    from gemkit.train.padded import Padding, epoch_means

    (tmp_path / "keras.toml").write_text(KERAS)
    done = call(
        "tune", "classify", "--model", small_model, "--data", small_run.data,
        "--config", tmp_path / "keras.toml", "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.code == 0, done.err
    same = gemkit.tune(
        gemkit.load(small_model), "classify", small_run.data, padding=Padding(40, 2),
        optimizer="keras_adamw", learning_rate=5e-3, weight_decay=0.01, schedule="constant",
        warmup=0, clip_norm=None, lora=gemkit.Lora(3, targets=("q", "v"), form="keras"), epochs=2,
        valid_share=0,
    )  # fmt: skip
    assert losses_of(tmp_path / "run") == [row["loss"] for row in same.history]
    assert len(same.history) == 48  # two rows a step, in the order of the file
    means = [epoch_means(same.history, epoch) for epoch in (1, 2)]
    assert [line.split() for line in done.out.splitlines()[:3]] == [
        ["epoch", "loss", "accuracy"],
        *([f"{n}", f"{m['loss']:.4f}", f"{m['accuracy']:.4f}"] for n, m in enumerate(means, 1)),
    ]
    again = call(
        "tune", "classify", "--model", small_model, "--data", small_run.data, "--epochs", 0.5,
        "--config", tmp_path / "keras.toml", "--out", tmp_path / "half", "--json",
    )  # fmt: skip
    (half,) = json.loads(again.out)["epochs"]
    assert half == {"epoch": 1, **epoch_means(same.history[:12], 1)}


def test_flags_that_cannot_be(
    call: Any, small_run: Any, small_model: Path, tmp_path: Path
) -> None:
    for flags, said in (
        ({"quantize": "int2"}, "quantize is 'int2'; expected one of int8, int4"),
        ({"remat": "some"}, "remat is 'some'; expected one of off, layer, full"),
        ({"checkpoint_every": 0}, "checkpoint_every is 0; expected at least 1 step"),
        ({"ema": 2}, "ema is 2.0; expected a decay between 0 and 1"),
        ({"padding": "x"}, "--padding is 'x'; expected LENGTH or LENGTH,ROWS, such as 512,1"),
        ({"padding": "9,0"}, "padding rows is 0; expected at least 1"),
        ({"form": "flax"}, "LoRA form is 'flax'; expected 'peft', or 'keras' without DoRA"),
    ):
        done = call(*arguments(small_run, small_model, tmp_path / "run", **flags))
        assert (done.code, done.out) == (2, "") and said in done.err
    assert list(tmp_path.iterdir()) == []
