"""Teach a base model to follow instructions, from rows such as those of Dolly-15k.

    python examples/instruct.py [MODEL [RUN]]
"""

import sys
from pathlib import Path
from typing import Any

import gemkit

SAMPLES = Path(gemkit.__file__).parent / "samples" / "instruct"


def main(model: str = "nano", out: str = "runs/instruct", **settings: Any) -> None:
    """Tunes, shows the figures before and after, and asks something new."""
    lm = gemkit.load(model)
    # "keep" shows a row's context to the model; "drop" leaves such rows out.
    task = gemkit.tasks.Instruct(context_rows="keep", max_new_tokens=32)
    result = gemkit.tune(
        lm, task, SAMPLES / "train.jsonl", SAMPLES / "test.jsonl", out=out, **settings
    )
    show(result.metrics)
    prompt = "Instruction:\nName two things to read on a train.\n\nResponse:\n"
    print(result.lm.generate(prompt, max_new_tokens=32))


def show(metrics: dict[str, float]) -> None:
    """A line a figure."""
    for name, value in metrics.items():
        print(f"{name:24} {value:10.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
