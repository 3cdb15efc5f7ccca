"""Kills a training run at random moments until it is through, and compares it with one let be.

`python tests/kill.py --times 100` takes some minutes; three kills are part of `make test`.
The run has all that a state can hold: AdamW, schedule, accumulated batches, dropout, a moving
average, validation with patience, a best tree. Everything must come out the same to the last bit.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EPOCHS = 8
MEASURED = ("seconds", "peak_memory")


def train(folder: Path, out: Path | None = None) -> dict[str, Any]:
    """The run, from where `folder` says; prints "ready" when the first step can begin."""
    import jax
    import numpy as np
    from tiny import GEMMA1, ids, weights

    from gemkit.adapt.lora import Lora, init_adapter
    from gemkit.train.checkpoints import Checkpoints
    from gemkit.train.loop import FitSettings, fit, make_loss_measure
    from gemkit.train.optimizer import OptimizerSettings
    from gemkit.train.packing import Example

    examples = [Example(ids(n, n), [False] * 3 + [True] * (n - 3)) for n in range(6, 22)]
    lora, config, base = Lora(2, dropout=0.1, targets=("q", "down")), GEMMA1, weights(GEMMA1)
    settings = FitSettings(
        epochs=EPOCHS, batch_tokens=64, seed=5, valid_every=3, patience=40, accumulate=2, ema=0.9
    )
    loss = make_loss_measure(base, config, lora, examples[:5], 64)
    adapter = init_adapter(config, lora, 0)
    loss(adapter)
    print("ready", flush=True)
    result = fit(
        base, config, lora, adapter, examples, settings, OptimizerSettings(learning_rate=0.02),
        lambda tree: {**loss(tree), "valid_accuracy": 0.5},
        keeper=Checkpoints(folder, {"data": 1}, every=2, resume=True, tell=lambda line: None),
    )  # fmt: skip
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(result.trained):
        digest.update(np.asarray(leaf).tobytes())
    rows = [{k: v for k, v in row.items() if k not in MEASURED} for row in result.history]
    found = {"rows": rows, "best_step": result.best_step, "trained": digest.hexdigest()}
    if out is not None:
        out.write_text(json.dumps(found))
    return found


def start(folder: Path, out: Path) -> "subprocess.Popen[str]":
    """The run in a process of its own, up to "ready"."""
    code = f"import kill; kill.train(kill.Path({str(folder)!r}), kill.Path({str(out)!r}))"
    paths = os.pathsep.join(map(str, (ROOT / "src", ROOT / "tests")))
    cache = str(folder.parent / "xla")
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
        env={
            **os.environ, "PYTHONPATH": paths, "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PLATFORMS": "cpu",
        },
    )  # fmt: skip
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child


def let_be(place: Path) -> tuple[dict[str, Any], float]:
    """What the run comes to, and the seconds it takes from "ready" on."""
    with start(place / "whole" / "checkpoints", place / "whole.json") as child:
        began = time.monotonic()
        assert child.wait() == 0
        seconds = time.monotonic() - began
    return json.loads((place / "whole.json").read_text()), seconds


def killed(place: Path, times: int, seed: int = 0) -> int:
    """Kills runs `times` times, each somewhere in its course; returns how many came through.

    Raises:
      AssertionError: one came to something else than the run that was let be.
    """
    expected, seconds = let_be(place)
    draw, through, number = random.Random(seed), 0, 0
    kills = 0
    while kills < times or (place / f"run{number}").exists():
        out = place / f"run{number}.json"
        with start(place / f"run{number}" / "checkpoints", out) as child:
            if kills < times:
                # The others need not compile, so they are through sooner.
                time.sleep(draw.uniform(0, 0.7 * seconds))
                if child.poll() is None:
                    child.send_signal(signal.SIGKILL)
                    kills += 1
        if out.exists():
            found = json.loads(out.read_text())
            assert found == expected, f"run {number} differs after {kills} kills"
            number, through = number + 1, through + 1
    return through


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        through = killed(Path(place), arguments.times, arguments.seed)
    print(f"{arguments.times} kills, {through} runs came through, each the same to the last bit")


if __name__ == "__main__":
    main()
