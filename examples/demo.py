"""The main job from start to end on the embedded model: `make demo`.

Every step is a command that can be typed as it is printed; the last lines say where things lie.
"""

import shlex
import shutil
import sys
import time
from pathlib import Path

from gemkit.cli.main import main
from gemkit.train.data import read_table, write_table

SAMPLES = Path("src/gemkit/samples")
OUT = Path("runs/demo")
REVIEWS = OUT / "reviews"


def run(*words: str) -> None:
    """Prints a command as one types it and does what it says."""
    print(f"\n$ gemkit {' '.join(map(quoted, words))}", flush=True)
    try:
        code = main(list(words))
    except SystemExit as end:
        code = end.code
    if code:
        sys.exit(f"demo: that command ended with {code}")


def quoted(word: str) -> str:
    """A word as a shell reads it, on one line."""
    if "\n" not in word:
        return shlex.quote(word)
    return "$'" + word.replace("\n", "\\n") + "'"


def demo() -> None:
    """Tunes, labels, evaluates, completes, and says where each result lies."""
    began = time.monotonic()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    test = read_table(SAMPLES / "reviews" / "test.tsv")
    unlabelled = OUT / "unlabelled.tsv"
    write_table(unlabelled, ["id", "comment"], test.rows, like=test)
    piece = OUT / "geometry.py"
    piece.write_text(
        "def rectangle_area(width, height):\n"
        '    """Return the area of a rectangle."""\n'
        "    \n"
        "\n\n"
        "def rectangle_perimeter(width, height):\n"
        '    """Return the perimeter of a rectangle."""\n'
        "    return 2 * (width + height)\n"
    )

    run("info", "nano", "--lora-rank", "4")
    run(
        "tune", "classify", "--model", "nano",
        "--data", str(SAMPLES / "reviews" / "train.tsv"),
        "--valid", str(SAMPLES / "reviews" / "valid.tsv"), "--out", str(REVIEWS),
    )  # fmt: skip
    run("predict", str(REVIEWS), str(unlabelled), "--out", str(OUT / "labelled.tsv"))
    run("evaluate", str(REVIEWS), str(SAMPLES / "reviews" / "test.tsv"))
    # nano rarely ends by itself: an empty line ends the piece.
    run("complete", "nano", f"{piece}:3", "--stop", "\n\n")
    run("generate", "nano", "The food was", "--max-new-tokens", "24")

    print(f"\nDone in {time.monotonic() - began:.0f} s. What lies where:")
    for path, what in (
        (REVIEWS / "report.html", "the report of the run: curves, confusion matrix, mistakes"),
        (REVIEWS / "adapter", "the adapter, in PEFT's format"),
        (REVIEWS / "predictions.tsv", "the validation rows with answers and probabilities"),
        (OUT / "labelled.tsv", f"{len(test.rows)} new reviews with their labels"),
        (piece, "the file whose line 3 was completed above"),
    ):
        print(f"  {path}  {what}")


if __name__ == "__main__":
    demo()
