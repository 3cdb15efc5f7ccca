"""A Gemma small enough to be tuned in seconds: a folder, a task, a run. Fixtures for all tests.

JAX is imported inside: this is read before the settings it starts with are made.
"""

import dataclasses
import importlib.util
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gemkit.model.config import GemmaConfig

if TYPE_CHECKING:
    from gemkit.tuning import TuneResult

CONTEXT = 128
CONFIG = GemmaConfig(
    num_layers=2, hidden_size=32, intermediate_size=48, num_heads=2, num_kv_heads=1, head_dim=16,
    vocab_size=640, query_scale=0.25, attention_pattern=("local", "global"), sliding_window=48,
    qk_norm=True, post_norms=True, max_positions=CONTEXT,
)  # fmt: skip

# Rows are about as long as each other, so that few programs are compiled.
DISHES = ("soup", "bread", "국수", "tea")
PLACES = ("today", "on Monday", "at noon", "with friends", "again", "outside")
CODE = """def total(values, start=0):
    result = start
    for value in values:
        result += value
    return result
"""
WORDS = {"good": "warm", "bad": "cold"}
TEXTS = [
    *(f"The {a} {b} {c}." for a in WORDS.values() for b in DISHES for c in PLACES),
    *("Text: ", "Label: ", *WORDS, CODE),
] * 4  # fmt: skip
SETTINGS = {"epochs": 8, "learning_rate": 0.02, "batch_tokens": 256, "valid_every": 1000}
RANK = 8


def make_model(folder: Path) -> None:
    """Writes the model: random weights; its vocabulary has Gemma's control tokens and FIM."""
    import jax.numpy as jnp

    from gemkit.checkpoint.save import save_checkpoint
    from gemkit.model.weights import specs, unflatten
    from gemkit.text.tokenizer import Tokenizer

    path = Path(__file__).parents[1] / "nano" / "vocabulary.py"
    spec = importlib.util.spec_from_file_location("small_vocabulary", path)
    assert spec and spec.loader
    vocabulary = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(vocabulary)
    model = folder.with_name(f"{folder.name}.model")
    vocabulary.train_vocabulary(TEXTS, model, CONFIG.vocab_size, min_character_count=1)
    draw = np.random.default_rng(0)
    leaves = {
        path: jnp.asarray(draw.normal(size=spec.shape) * 0.17 * (len(spec.shape) > 1), "float32")
        for path, spec in specs(CONFIG).items()
    }
    # Logits of a narrow random model are small; so an adapter can make some of them large.
    leaves["final_norm"] += 3.0
    save_checkpoint(folder, CONFIG, unflatten(leaves), Tokenizer.from_file(model))


def rows(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """(text, label): the label hangs on one word."""
    draw = random.Random(seed)
    labels = list(WORDS)
    return [
        (f"The {WORDS[label]} {draw.choice(DISHES)} {draw.choice(PLACES)}.", label)
        for label in (labels[number % 2] for number in range(count))
    ]


def table(count: int, seed: int = 0) -> str:
    """The same as a TSV with the columns id, comment, label."""
    lines = [f"{n}\t{text}\t{label}" for n, (text, label) in enumerate(rows(count, seed))]
    return "\n".join(["id\tcomment\tlabel", *lines]) + "\n"


def flags(**more: object) -> list[str]:
    """SETTINGS, and others, as the command line takes them."""
    given = {**SETTINGS, **more}
    return [x for key, value in given.items() for x in (f"--{key.replace('_', '-')}", str(value))]


@dataclasses.dataclass(frozen=True)
class SmallRun:
    """A finished run of the small model on its task."""

    path: Path
    data: Path
    valid: Path
    result: "TuneResult"


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs compiled once are found again, by other jits too."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    for name, value in zip(names, (str(tmp_path_factory.mktemp("xla")), 0.05), strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="session")
def small_model(compiled: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the small model."""
    folder = tmp_path_factory.mktemp("models") / "small"
    make_model(folder)
    return folder


@pytest.fixture(scope="session")
def small_run(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """The small model with an adapter that learnt the task."""
    import gemkit

    folder = tmp_path_factory.mktemp("runs")
    data, valid = folder / "train.tsv", folder / "valid.tsv"
    data.write_text(table(48), encoding="utf-8")
    valid.write_text(table(12, seed=1), encoding="utf-8")
    result = gemkit.tune(
        gemkit.load(small_model), gemkit.tasks.Classify(), data, valid, out=folder / "run",
        lora=gemkit.Lora(rank=RANK), **SETTINGS,
    )  # fmt: skip
    return SmallRun(folder / "run", data, valid, result)
