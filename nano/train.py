"""Train nano, the embedded model, from scratch: `make nano`.

Writes the vocabulary, checkpoints and a log to the work folder and, at the end, the model as a
Hugging Face folder into the package. Started again, it goes on from the newest checkpoint.
The stages stand in `stages.py`.
"""

import argparse
import json
import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

import card
import corpus
import jax
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers, muon
from stages import STAGES, Stage
from vocabulary import train_vocabulary

from gemkit.checkpoint.save import save_checkpoint
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import count_parameters, flatten, init_params, unflatten
from gemkit.text.tokenizer import Tokenizer
from gemkit.train.step import init_state, make_train_step, make_valid_step

HERE = Path(__file__).resolve().parent
PACKAGE_FOLDER = HERE.parent / "src" / "gemkit" / "presets" / "nano"

CONFIG = GemmaConfig(
    num_layers=6, hidden_size=192, intermediate_size=512, num_heads=4, num_kv_heads=1,
    head_dim=64, vocab_size=4096, query_scale=64**-0.5,
    attention_pattern=("local",) * 5 + ("global",), sliding_window=256, qk_norm=True,
    post_norms=True, rope_theta=100_000.0, max_positions=1024,
)  # fmt: skip

SEED = 0
# Rows grow late in a stage: short rows are cheap, long ones teach the far positions.
SHORT, LONG = (16, 256), (4, 1024)
LONG_SHARE = 0.03
SAVE_EVERY, LOG_EVERY, VALID_EVERY = 100, 20, 400


def optimizer(stage: Stage) -> optax.GradientTransformation:
    """Muon (Jordan 2024) for the layers' matrices, Adam for the embedding and the norms."""
    decay = int(stage.decay * stage.steps)
    # Constant until the decay, so that the number of steps can be decided on while it runs.
    rate = optax.join_schedules(
        [
            optax.linear_schedule(0.0, stage.rate, stage.warmup),
            optax.constant_schedule(stage.rate),
            optax.linear_schedule(stage.rate, 0.02 * stage.rate, decay),
        ],
        [stage.warmup, stage.steps - decay],
    )

    def matrices(params: Any) -> Any:
        def numbers(path: str, leaf: Any) -> MuonDimensionNumbers | None:
            # Where the other rule is at work, optax shows a leaf without a shape.
            if path == "embed" or isinstance(leaf, optax.MaskedNode) or leaf.ndim != 2:
                return None
            return MuonDimensionNumbers(reduction_axis=1, output_axis=0)

        return unflatten({path: numbers(path, leaf) for path, leaf in flatten(params)})

    return optax.chain(
        optax.clip_by_global_norm(1.0),
        muon(
            rate,
            adam_learning_rate=lambda count: 0.5 * rate(count),
            consistent_rms=0.2,
            weight_decay=0.01,
            muon_weight_dimension_numbers=matrices,
        ),
    )


def save_state(folder: Path, step: int, state: Any) -> None:
    """The whole training state in one file, the newest two kept."""
    leaves = jax.tree.leaves(state)
    arrays = {str(i): np.asarray(_plain(leaf)) for i, leaf in enumerate(leaves)}
    path = folder / f"state_{step:06}.npz"
    unfinished = path.with_suffix(".partial")
    with unfinished.open("wb") as file:
        np.savez(file, **arrays)
    os.replace(unfinished, path)
    for old in sorted(folder.glob("state_*.npz"))[:-2]:
        old.unlink()


def saved_step(folder: Path) -> int:
    """The step of the newest saved state, 0 without one."""
    return max((int(path.stem.split("_")[1]) for path in folder.glob("state_*.npz")), default=0)


def load_state(folder: Path, step: int, fresh: Any) -> Any:
    """The state saved after `step`, in the shape of `fresh`."""
    with np.load(folder / f"state_{step:06}.npz") as arrays:
        leaves = [
            jax.random.wrap_key_data(arrays[str(i)]) if _is_key(leaf) else jax.numpy.asarray(
                arrays[str(i)]
            )
            for i, leaf in enumerate(jax.tree.leaves(fresh))
        ]
    return jax.tree.unflatten(jax.tree.structure(fresh), leaves)


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def validate(text: corpus.Corpus, params: Any, step_function: Any, tokenizer: Tokenizer) -> dict:
    """Bits per byte and next-token accuracy on held-out samples, by source."""
    results = {}
    for source in corpus.SOURCES:
        rng, loss, size, right, weight = random.Random(f"valid {source}"), 0.0, 0, 0.0, 0.0
        for _ in range(6):
            batch, size_here = _valid_batch(text, source, rng, tokenizer)
            sums = step_function(params, {}, batch)
            loss, size = loss + float(sums.loss), size + size_here
            right, weight = right + float(sums.correct), weight + float(sums.weight)
        results[source] = {
            "bits_per_byte": round(loss / np.log(2) / max(size, 1), 4),
            "accuracy": round(right / weight, 4),
        }
    return results


def _valid_batch(text: corpus.Corpus, source: str, rng: Any, tokenizer: Tokenizer) -> Any:
    rows, length = 16, 256
    tokens = np.zeros((rows, length + 1), np.int32)
    size = 0
    for row in range(rows):
        ids = text.sample(source, rng, length + 1, valid=True)[0][: length + 1]
        tokens[row, : len(ids)] = ids
        size += sum(len(tokenizer.token_bytes(token)) for token in ids[1:])
    segments = (tokens > 0).astype(np.int32)
    return {
        "tokens": tokens[:, :-1],
        "positions": np.tile(np.arange(length, dtype=np.int32), (rows, 1)),
        "segments": segments[:, :-1],
        "target_index": np.arange(rows * length, dtype=np.int32),
        "target_ids": tokens[:, 1:].reshape(-1),
        "target_weights": segments[:, 1:].reshape(-1).astype(np.float32),
    }, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=HERE / "training")
    parser.add_argument("--out", type=Path, default=PACKAGE_FOLDER)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)

    print("gathering text", flush=True)
    samples = corpus.pools(SEED)
    vocabulary = arguments.work / "tokenizer.model"
    if not vocabulary.exists():
        print("learning the vocabulary", flush=True)
        train_vocabulary(corpus.vocabulary_texts(samples), vocabulary, CONFIG.vocab_size)
    tokenizer = Tokenizer.from_file(vocabulary)
    text = corpus.Corpus(tokenizer, samples, SEED)
    print(f"{count_parameters(CONFIG):,} parameters", flush=True)

    params, first = init_params(CONFIG, SEED), 0
    for stage in STAGES:
        last = first + stage.steps
        if saved_step(arguments.work) <= last:
            params = train_stage(arguments.work, stage, first, params, text, tokenizer)
        first = last
    export(arguments.out, params, tokenizer, arguments.work)
    print(f"wrote {arguments.out}")


def train_stage(
    work: Path, stage: Stage, first: int, params: Any, text: corpus.Corpus, tokenizer: Tokenizer
) -> Any:
    """The weights after a stage that follows step `first`; goes on from a state saved in it."""
    rule, last = optimizer(stage), first + stage.steps
    state, done = init_state(params, rule, SEED), saved_step(work)
    if done > first:
        state = load_state(work, done, state)
    train, valid = make_train_step(CONFIG, None, rule), make_valid_step(CONFIG, None)
    log = (work / "log.jsonl").open("a")
    long_from = first + int((1 - LONG_SHARE) * stage.steps)
    began, tokens_seen, pending = time.monotonic(), 0, []
    for step in range(first + int(state.step), last):
        rows, length = LONG if step >= long_from else SHORT
        state, result = train(state, {}, text.rows(rows, length, step))
        pending.append(result)
        tokens_seen += rows * length
        if (step + 1) % LOG_EVERY == 0:
            loss = sum(float(r.sums.loss) for r in pending)
            weight = sum(float(r.sums.weight) for r in pending)
            speed = tokens_seen / (time.monotonic() - began)
            line = {"step": step + 1, "loss": round(loss / weight, 4), "tokens_per_s": int(speed)}
            if (step + 1) % VALID_EVERY == 0 or step + 1 == last:
                line["valid"] = validate(text, state.trained, valid, tokenizer)
            print(json.dumps(line), flush=True)
            log.write(json.dumps(line) + "\n")
            log.flush()
            pending = []
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == last:
            save_state(work, step + 1, state)
    return state.trained


def export(out: Path, params: Any, tokenizer: Tokenizer, work: Path) -> None:
    """The model as a Hugging Face folder with its card, in place of the old one."""
    tokens = 0
    for stage in STAGES:
        short = int((1 - LONG_SHARE) * stage.steps)
        tokens += short * SHORT[0] * SHORT[1] + (stage.steps - short) * LONG[0] * LONG[1]
    log = card.read_log((work / "log.jsonl").read_text())
    (work / "export").mkdir(exist_ok=True)
    fresh = work / "export" / out.name
    shutil.rmtree(fresh, ignore_errors=True)
    save_checkpoint(fresh, CONFIG, params, tokenizer)
    text = card.card(CONFIG, STAGES, corpus.MIXTURES, log, tokens, SEED)
    (fresh / "README.md").write_text(text, encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(fresh, out)


if __name__ == "__main__":
    main()
