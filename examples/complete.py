"""Teach a model your own code: gaps are cut into source files, some files are held out.

    python examples/complete.py [MODEL [RUN]]
"""

import sys
from pathlib import Path
from typing import Any

import gemkit

SAMPLES = Path(gemkit.__file__).parent / "samples" / "complete"


def main(model: str = "nano", out: str = "runs/complete", **settings: Any) -> None:
    """Tunes, shows the figures before and after, and asks something new."""
    lm = gemkit.load(model)
    # Of each file two lines, expressions or random pieces; half show the suffix first.
    task = gemkit.tasks.Complete(gaps=2, spm_share=0.5, context_files=1, max_new_tokens=32)
    result = gemkit.tune(lm, task, SAMPLES, valid_share=0.2, out=out, **settings)
    show(result.metrics)
    before = "def half(cents):\n    return "
    print(before + result.lm.complete(before, "\n", max_new_tokens=16))


def show(metrics: dict[str, float]) -> None:
    """A line a figure."""
    for name, value in metrics.items():
        print(f"{name:24} {value:10.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
