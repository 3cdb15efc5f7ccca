"""Teach a model to translate, from a file such as MTNT's: id, English, French, no header.

    python examples/translate.py [MODEL [RUN]]
"""

import sys
from pathlib import Path
from typing import Any

import gemkit

SAMPLES = Path(gemkit.__file__).parent / "samples" / "translate"


def main(model: str = "nano", out: str = "runs/translate", **settings: Any) -> None:
    """Tunes, shows the figures before and after, and asks something new."""
    lm = gemkit.load(model)
    task = gemkit.tasks.Translate(language="French", max_new_tokens=32)
    result = gemkit.tune(
        lm, task, SAMPLES / "train.tsv", SAMPLES / "test.tsv", out=out, **settings
    )
    show(result.metrics)
    prompt = "Translate this into French:\nThe bread is warm.\n"
    print(result.lm.generate(prompt, max_new_tokens=32))


def show(metrics: dict[str, float]) -> None:
    """A line a figure."""
    for name, value in metrics.items():
        print(f"{name:24} {value:10.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
