"""Go on training on plain texts; every token of every file is learnt.

    python examples/text.py [MODEL [RUN]]
"""

import sys
from pathlib import Path
from typing import Any

import gemkit

SAMPLES = Path(gemkit.__file__).parent / "samples" / "text"


def main(model: str = "nano", out: str = "runs/text", **settings: Any) -> None:
    """Tunes, shows the figures before and after, and asks something new."""
    lm = gemkit.load(model)
    task = gemkit.tasks.Text()
    result = gemkit.tune(lm, task, SAMPLES, valid_share=0.3, out=out, **settings)
    show(result.metrics)
    print(result.lm.generate("The lamp in the tower", max_new_tokens=32))


def show(metrics: dict[str, float]) -> None:
    """A line a figure."""
    for name, value in metrics.items():
        print(f"{name:24} {value:10.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
