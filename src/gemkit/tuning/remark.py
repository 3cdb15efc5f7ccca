"""What a step of training, or a validation, is reported as beside the progress bar."""

from collections.abc import Mapping

from gemkit.summary import human_bytes


def training_remark(row: Mapping[str, float]) -> str:
    """A row of the history on a line, the most telling figure first.

    >>> training_remark({"loss": 0.5, "accuracy": 0.81, "tokens": 480, "slots": 512,
    ...                  "seconds": 0.4, "peak_memory": 1.5 * 2**30})
    'loss 0.500  right 81%  1,200 tokens/s  padding 6%  1.50 GiB'
    """
    if "loss" not in row:
        measured = {k.removeprefix("valid_"): v for k, v in row.items() if k.startswith("valid_")}
        return "  ".join(f"{name} {value:.3f}" for name, value in measured.items())
    parts = [f"loss {row['loss']:.3f}"]
    if "accuracy" in row:
        parts.append(f"right {row['accuracy']:.0%}")
    parts.append(f"{row['tokens'] / max(row['seconds'], 1e-9):,.0f} tokens/s")
    if row.get("slots"):
        parts.append(f"padding {1 - row['tokens'] / row['slots']:.0%}")
    if "peak_memory" in row:
        parts.append(human_bytes(row["peak_memory"]))
    return "  ".join(parts)
