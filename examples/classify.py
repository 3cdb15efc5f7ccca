"""Teach a model to label texts: restaurant reviews, good or bad.

    python examples/classify.py [MODEL [RUN]]
"""

import sys
from pathlib import Path
from typing import Any

import gemkit

SAMPLES = Path(gemkit.__file__).parent / "samples" / "reviews"


def main(model: str = "nano", out: str = "runs/classify", **settings: Any) -> None:
    """Tunes, shows the figures before and after, and asks something new."""
    lm = gemkit.load(model)
    task = gemkit.tasks.Classify(text="comment", label="label")
    result = gemkit.tune(
        lm, task, SAMPLES / "train.tsv", SAMPLES / "valid.tsv", out=out, **settings
    )
    show(result.metrics)
    review = "The soup was cold and we waited an hour.\nLabel:\n"
    choice = result.lm.choose(review, ["0", "1"])
    print("0 is bad, 1 is good:", choice.choice, choice.probabilities)


def show(metrics: dict[str, float]) -> None:
    """A line a figure."""
    for name, value in metrics.items():
        print(f"{name:24} {value:10.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
