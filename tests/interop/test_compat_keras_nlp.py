"""The KerasNLP shim beside KerasHub: the same preset and data, the same text and figures."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import keras
import keras_hub
import numpy as np
import pytest
from toy_vocabulary import small_vocabulary

from gemkit.checkpoint.save import save_checkpoint
from gemkit.compat import keras as stand_in
from gemkit.compat import keras_nlp
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import specs, unflatten

pytestmark = pytest.mark.filterwarnings("default")

SIZES: dict[str, Any] = {
    "hidden_size": 48, "intermediate_size": 80, "num_heads": 4, "num_kv_heads": 2,
    "head_dim": 16, "vocab_size": 320, "query_scale": 0.25,
}  # fmt: skip
CONFIGS = {
    "gemma": GemmaConfig(num_layers=2, **SIZES),
    "gemma2": GemmaConfig(
        num_layers=2, **SIZES, attention_pattern=("local", "global"), sliding_window=6,
        attn_logit_softcap=5.0, final_logit_softcap=20.0, post_norms=True,
    ),
    "gemma3": GemmaConfig(
        num_layers=6, **SIZES, attention_pattern=("local",) * 5 + ("global",), sliding_window=6,
        qk_norm=True, post_norms=True, rope_theta=1e6, rope_scale=8.0, max_positions=131_072,
    ),
}  # fmt: skip
TEXTS = ["the soup was warm", "bread", "again and again the soup was cold, so cold", "tea"]


@pytest.fixture(scope="module")
def presets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name → folder of a random model."""
    folders = {}
    for name, config in CONFIGS.items():
        rng = np.random.default_rng(5)
        leaves = {
            path: jnp.asarray(rng.normal(size=spec.shape) * 0.25, "float32")
            for path, spec in specs(config).items()
        }
        folder = tmp_path_factory.mktemp("presets") / name
        save_checkpoint(folder, config, unflatten(leaves), small_vocabulary(), "keras")
        folders[name] = str(folder)
    return folders


def pair(preset: str) -> tuple[Any, Any]:
    """The same model in both."""
    theirs = keras_hub.models.GemmaCausalLM.from_preset(preset)
    return keras_nlp.models.GemmaCausalLM.from_preset(preset), theirs


@pytest.mark.parametrize("name", ["gemma", "gemma2"])
def test_greedy_text(presets: dict[str, str], name: str) -> None:
    ours, theirs = pair(presets[name])
    prompts = ["the soup", "again and again the soup", "b"]
    settings: list[dict[str, Any]] = [
        {"max_length": 24}, {"max_length": 24, "stop_token_ids": None}, {"max_length": 4},
        {"max_length": 24, "strip_prompt": True},
        {"max_length": 24, "stop_token_ids": tuple(range(1, 320, 7))},
    ]  # fmt: skip
    for asked in settings:
        assert ours.generate(prompts, **asked) == theirs.generate(prompts, **asked), asked
        assert ours.generate("tea", **asked) == theirs.generate("tea", **asked), asked
    ours.preprocessor.sequence_length = theirs.preprocessor.sequence_length = 12
    assert ours.generate("a <bos> b") == theirs.generate("a <bos> b")


@pytest.mark.parametrize("name", ["gemma", "gemma2"])
def test_generate_and_score_arrays(presets: dict[str, str], name: str) -> None:
    theirs = keras_hub.models.CausalLM.from_preset(presets[name], preprocessor=None)
    ours = keras_nlp.models.CausalLM.from_preset(presets[name], preprocessor=None)
    assert type(ours).__name__ == type(theirs).__name__
    tokens = np.zeros((2, 16), np.int32)
    tokens[0, :5], tokens[1, :3] = [2, 50, 60, 70, 80], [2, 9, 8]
    inputs = {"token_ids": tokens, "padding_mask": tokens > 0}
    for stops in (None, (1, *range(100, 140))):
        found = ours.generate(copy.deepcopy(inputs), stop_token_ids=stops)
        wanted = theirs.generate(copy.deepcopy(inputs), stop_token_ids=stops)
        mask = np.asarray(wanted["padding_mask"], bool)
        assert np.array_equal(found["padding_mask"], mask)
        assert np.array_equal(found["token_ids"][mask], wanted["token_ids"][mask])
    ids = np.random.default_rng(0).integers(4, 320, (2, 11))
    logits = np.asarray(theirs.score(ids))
    assert np.abs(ours.score(ids) - logits).max() <= 1e-4 * np.abs(logits).max()
    losses = np.asarray(theirs.score(ids, scoring_mode="loss", target_ids=ids[:, ::-1]))
    found_losses = ours.score(ids, scoring_mode="loss", target_ids=ids[:, ::-1])
    assert np.allclose(found_losses, losses, atol=1e-3)


def figures(model: Any) -> list[str]:
    """What a summary says of layers, parameters and totals."""
    lines: list[str] = []
    model.summary(print_fn=lambda text, **_: lines.extend(text.splitlines()), line_length=108)
    return [line.strip() for line in lines if line.startswith(" ")]


@pytest.mark.parametrize("name", CONFIGS)
def test_summary(presets: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "108")
    theirs = keras_hub.models.CausalLM.from_preset(presets[name], preprocessor=None)
    ours = keras_nlp.models.CausalLM.from_preset(presets[name], preprocessor=None)
    for rank in (None, 3):
        if rank is not None:
            ours.backbone.enable_lora(rank=rank)
            theirs.backbone.enable_lora(rank=rank)
        lines: tuple[list[str], list[str]] = ([], [])
        for model, kept in zip((ours, theirs), lines, strict=True):
            model.name = "model"
            model.backbone.name = "backbone"
            model.summary(
                print_fn=lambda text, kept=kept, **_: kept.extend(text.rstrip().splitlines()),
                line_length=108,
            )
        assert lines[0] == lines[1]
        assert ours.backbone.count_params() == theirs.backbone.count_params()


@pytest.mark.parametrize("name", ["gemma", "gemma2"])
def test_summary_of_the_backbone(
    presets: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "108")
    # Within a CausalLM Keras shows the table's second use, the logits, in its place.
    ours, theirs = (
        library.models.GemmaBackbone.from_preset(presets[name])
        for library in (keras_nlp, keras_hub)
    )
    theirs.name = ours.name
    for rank in (None, 3):
        if rank is not None:
            ours.enable_lora(rank=rank)
            theirs.enable_lora(rank=rank)
        tables: tuple[list[str], list[str]] = ([], [])
        for backbone, kept in zip((ours, theirs), tables, strict=True):
            backbone.summary(
                print_fn=lambda text, kept=kept, **_: kept.append(text.rstrip()), line_length=108
            )
        # Keras numbers the layers of a process that have no name.
        said = re.sub(r"multiply_\d+( ?)", lambda found: "multiply" + found[1], tables[1][0])
        words = [re.sub(r"[^\w,.:()\[\]]+", " ", text) for text in (tables[0][0], said)]
        assert words[0] == words[1]


def test_summary_of_the_preprocessor(
    presets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "108")
    ours, theirs = pair(presets["gemma"])
    theirs.preprocessor.tokenizer.name = "gemma_tokenizer"
    theirs.preprocessor.name = ours.preprocessor.name
    tables: tuple[list[str], list[str]] = ([], [])
    for model, kept in zip((ours, theirs), tables, strict=True):
        model.summary(print_fn=lambda text, kept=kept, **_: kept.append(text.rstrip()))
    assert tables[0][0] == tables[1][0]


def adamw(library: Any) -> Any:
    optimizer = library.optimizers.AdamW(learning_rate=2e-2, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias", "scale"])
    return optimizer


def half_decayed(library: Any) -> Any:
    optimizer = library.optimizers.AdamW(
        library.optimizers.schedules.CosineDecay(1e-2, 9, warmup_target=3e-2, warmup_steps=3),
        weight_decay=0.5, beta_1=0.8, beta_2=0.95, epsilon=1e-3, global_clipnorm=0.01,
    )  # fmt: skip
    optimizer.exclude_from_weight_decay(var_names=["lora_kernel_b", "embed"])
    return optimizer


def momentum(library: Any) -> Any:
    rate = library.optimizers.schedules.ExponentialDecay(0.2, 4, 0.5)
    return library.optimizers.SGD(
        rate, momentum=0.9, nesterov=True, weight_decay=0.01, clipnorm=0.05
    )


def plain_adam(library: Any) -> Any:
    return library.optimizers.Adam(library.optimizers.schedules.PolynomialDecay(1e-2, 5))


def descent(library: Any) -> Any:
    return library.optimizers.SGD(0.1, clipvalue=0.002)


OPTIMIZERS: list[Callable[[Any], Any]] = [adamw, half_decayed, momentum, plain_adam, descent]


def compiled(model: Any, optimizer: Any, library: Any) -> None:
    model.preprocessor.sequence_length = 24
    model.compile(
        loss=library.losses.SparseCategoricalCrossentropy(from_logits=True), optimizer=optimizer,
        weighted_metrics=[library.metrics.SparseCategoricalAccuracy()],
    )  # fmt: skip


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("objects", [keras, stand_in])
def test_fit_with_lora(
    presets: dict[str, str], make: Callable[[Any], Any], objects: Any, tmp_path: Path
) -> None:
    ours, theirs = pair(presets["gemma"])
    theirs.backbone.enable_lora(rank=3)
    theirs.backbone.save_lora_weights(str(tmp_path / "start.lora.h5"))
    ours.backbone.load_lora_weights(tmp_path / "start.lora.h5")
    compiled(ours, make(objects), objects)
    compiled(theirs, make(keras), keras)
    for _ in range(2):  # the second call goes on where the first one ended
        found = ours.fit(TEXTS, epochs=2, batch_size=3, verbose=0).history
        wanted = theirs.fit(TEXTS, epochs=2, batch_size=3, verbose=0).history
        assert found.keys() == wanted.keys()
        for measure in wanted:
            assert found[measure] == pytest.approx(wanted[measure], rel=1e-4, abs=1e-6), measure
    assert ours.evaluate(TEXTS, batch_size=2) == pytest.approx(
        theirs.evaluate(TEXTS, batch_size=2, verbose=0), rel=1e-4
    )
    assert ours.generate("the soup", max_length=20) == theirs.generate("the soup", max_length=20)
    assert figures(ours)[-4:] == figures(theirs)[-4:]


@pytest.mark.parametrize("make", [adamw, half_decayed, momentum])
@pytest.mark.parametrize("name", ["gemma", "gemma2"])
def test_fit_of_all_weights(
    presets: dict[str, str], name: str, make: Callable[[Any], Any], tmp_path: Path
) -> None:
    ours, theirs = pair(presets[name])
    compiled(ours, make(keras), keras)
    compiled(theirs, make(keras), keras)
    settings: dict[str, Any] = {"epochs": 3, "batch_size": 2, "verbose": 0}
    found = ours.fit(TEXTS, validation_data=(TEXTS[:3],), **settings).history
    wanted = theirs.fit(TEXTS, validation_data=(TEXTS[:3],), **settings).history
    assert found.keys() == wanted.keys()
    for measure in wanted:
        assert found[measure] == pytest.approx(wanted[measure], rel=1e-4, abs=1e-6), measure
    ours.save_to_preset(tmp_path / "tuned")
    again = keras_hub.models.GemmaCausalLM.from_preset(str(tmp_path / "tuned"))
    assert ours.generate("the soup", max_length=20) == again.generate("the soup", max_length=20)


@pytest.mark.parametrize("name", ["gemma", "gemma3"])
def test_fit_of_arrays(presets: dict[str, str], name: str, tmp_path: Path) -> None:
    """Weights that leave tokens out, as Gemma 3's preprocessor does for prompts."""
    theirs = keras_hub.models.CausalLM.from_preset(presets[name], preprocessor=None)
    ours = keras_nlp.models.CausalLM.from_preset(presets[name], preprocessor=None)
    theirs.backbone.enable_lora(rank=2)
    theirs.backbone.save_lora_weights(str(tmp_path / "start.lora.h5"))
    ours.backbone.load_lora_weights(tmp_path / "start.lora.h5")
    ids = np.random.default_rng(1).integers(4, 320, (5, 13)).astype(np.int32)
    ids[1, 9:], ids[4, 5:] = 0, 0
    weights = (ids[:, 1:] > 0) & (np.arange(12) >= 3)
    x = {"token_ids": ids[:, :-1], "padding_mask": ids[:, :-1] > 0}
    for model in (ours, theirs):
        model.compile(
            optimizer=keras.optimizers.Adam(1e-2), weighted_metrics=["accuracy"],
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )  # fmt: skip
    settings: dict[str, Any] = {
        "y": ids[:, 1:], "sample_weight": weights, "epochs": 3, "batch_size": 2, "verbose": 0,
    }  # fmt: skip
    wanted = theirs.fit(x, **settings, shuffle=False).history
    found = ours.fit(x, **settings).history
    assert found.keys() == wanted.keys()
    for measure in wanted:
        assert found[measure] == pytest.approx(wanted[measure], rel=1e-4, abs=1e-6), measure


def test_lora_files_both_ways(presets: dict[str, str], tmp_path: Path) -> None:
    ours, theirs = pair(presets["gemma2"])
    ours.backbone.enable_lora(rank=2)
    compiled(ours, adamw(keras), keras)
    ours.fit(TEXTS, epochs=1, batch_size=2, verbose=0)
    ours.backbone.save_lora_weights(tmp_path / "x.lora.h5")
    theirs.backbone.load_lora_weights(str(tmp_path / "x.lora.h5"))
    compiled(theirs, adamw(keras), keras)
    found, wanted = (m.evaluate(TEXTS, verbose=0) for m in (ours, theirs))
    assert found == pytest.approx(wanted, rel=1e-4)


def test_preprocessor(presets: dict[str, str]) -> None:
    ours, theirs = (model.preprocessor for model in pair(presets["gemma"]))
    for x in (TEXTS, TEXTS[0]):
        for length in (None, 7):
            found = ours(x, sequence_length=length)
            wanted = theirs(x, sequence_length=length)
            for a, b in zip(flat(found), flat(wanted), strict=True):
                assert np.array_equal(a, np.asarray(b))
            prompts = (p.generate_preprocess(x, sequence_length=7) for p in (ours, theirs))
            for a, b in zip(*map(flat, prompts), strict=True):
                assert np.array_equal(a, np.asarray(b))
    tokens = ours.tokenizer
    assert tokens.special_token_ids != [] and set(tokens.special_token_ids) == set(
        theirs.tokenizer.special_token_ids
    )
    for token in ("<eos>", "<end_of_turn>", "no such token"):
        assert tokens.token_to_id(token) == theirs.tokenizer.token_to_id(token)
    batch = tokens(TEXTS)
    assert [list(row) for row in batch] == [list(row) for row in theirs.tokenizer(TEXTS)]
    assert tokens.detokenize(batch) == theirs.tokenizer.detokenize(batch)
    assert tokens.vocabulary_size() == theirs.tokenizer.vocabulary_size()


def flat(given: Any) -> list[np.ndarray]:
    if isinstance(given, dict):
        return [np.asarray(given[name]) for name in sorted(given)]
    return [array for part in given for array in (flat(part) if isinstance(part, dict) else [part])]


@pytest.mark.parametrize("name, arguments", [
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "alpha": 0.2}),
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "warmup_target": 0.3,
                     "warmup_steps": 3}),
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5,
                          "staircase": True}),
    ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5}),
    ("PiecewiseConstantDecay", {"boundaries": [2, 5], "values": [0.3, 0.2, 0.1]}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 4, "power": 2.0,
                         "cycle": True}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 4}),
])  # fmt: skip
def test_schedules(name: str, arguments: dict[str, Any]) -> None:
    ours = getattr(stand_in.optimizers.schedules, name)(**arguments)
    theirs = getattr(keras.optimizers.schedules, name)(**arguments)
    for step in range(12):
        assert ours(step) == pytest.approx(float(theirs(step)), rel=1e-5, abs=1e-8), step


def test_defaults_of_the_stand_ins() -> None:
    for name in ("Adam", "AdamW", "SGD"):
        ours = getattr(stand_in.optimizers, name)().get_config()
        theirs = getattr(keras.optimizers, name)().get_config()
        assert ours.keys() == theirs.keys(), name
        for key in ours.keys() - {"name"}:
            assert ours[key] == pytest.approx(theirs[key]) or ours[key] == theirs[key], key


def test_keras_callbacks(presets: dict[str, str]) -> None:
    ours, _ = pair(presets["gemma"])
    ours.backbone.enable_lora(rank=2)
    compiled(ours, keras.optimizers.SGD(0.0), keras)
    seen: list[str] = []

    class Told(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(f"{batch} {sorted(logs)}")

    stopping = keras.callbacks.EarlyStopping(
        monitor="loss", patience=1, min_delta=1e-3, restore_best_weights=True
    )
    history = ours.fit(TEXTS, epochs=9, batch_size=2, verbose=0, callbacks=[stopping, Told()])
    assert len(history.history["loss"]) == 2
    names = "['loss', 'sparse_categorical_accuracy']"
    assert seen == [f"{n} {names}" for n in (0, 1)] * 2
