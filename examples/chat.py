"""Teach a model to chat, from conversations in OpenAI's form: only its own turns are learnt.

    python examples/chat.py [MODEL [RUN]]
"""

import sys
from pathlib import Path
from typing import Any

import gemkit

SAMPLES = Path(gemkit.__file__).parent / "samples" / "chat"


def main(model: str = "nano", out: str = "runs/chat", **settings: Any) -> None:
    """Tunes, shows the figures before and after, and asks something new."""
    lm = gemkit.load(model)
    task = gemkit.tasks.Chat(max_new_tokens=32)
    result = gemkit.tune(
        lm, task, SAMPLES / "train.jsonl", SAMPLES / "test.jsonl", out=out, **settings
    )
    show(result.metrics)
    question = {"role": "user", "content": "Is breakfast ready?"}
    print(result.lm.chat([question], max_new_tokens=32))


def show(metrics: dict[str, float]) -> None:
    """A line a figure."""
    for name, value in metrics.items():
        print(f"{name:24} {value:10.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
