"""Measures gemkit, with KerasHub beside it where that is installed.

    python benchmarks/run.py [--quick] [--out FOLDER] [--machine TEXT] [NAME …]

NAME is one of tune, label, decode, generate, startup, files, memory, products; all by default.
Prints a table and writes FOLDER/<date>-<device>.json and .md; of a part, <date>-<device>-<names>….
"""

import argparse
import dataclasses
import datetime
import importlib
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")
# Keras is told nothing, and prints nothing, about devices that JAX does not have.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

NAMES = ("tune", "label", "decode", "generate", "startup", "files", "memory", "products")
PACKAGES = ("gemkit", "jax", "jaxlib", "keras", "keras-hub", "numpy", "torch", "transformers",
            "peft")
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Runs the chosen benchmarks one after the other in this process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="a tiny shape, to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument("--machine", default=machine(), help="the machine in general words")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(NAMES))
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}")
    names = tuple(name for name in NAMES if name in given.names) or NAMES

    import jax
    import measure
    import models

    size = models.QUICK if given.quick else models.FULL
    loads, rows = [os.getloadavg()[0]], {}
    for name in names:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        rows[name] = importlib.import_module(name).run(size)
        loads.append(os.getloadavg()[0])
        jax.clear_caches()
    today = datetime.date.today().isoformat()
    heading = (
        f"{today}, {given.machine}, load {min(loads):.1f} to {max(loads):.1f}"
        f"{', tiny shape: figures mean nothing' if given.quick else ''}"
    )
    table = measure.markdown(heading, sum(rows.values(), []), "the other")
    print(table)
    parts = [today, f"{jax.default_backend()}{os.cpu_count()}"]
    parts += [] if names == NAMES else names
    parts += ["quick"] if given.quick else []
    record = {
        "date": today, "machine": given.machine, "load": loads, "versions": versions(),
        "command": " ".join(["python benchmarks/run.py", *(["--quick"] * given.quick), *names]),
        "size": dataclasses.asdict(size),
        "rows": {name: [dataclasses.asdict(row) for row in part] for name, part in rows.items()},
    }  # fmt: skip
    write(given.out, "-".join(parts), record, table)


def machine() -> str:
    """Cores and kind of processor, without names."""
    return f"{os.cpu_count()} cores, {platform.machine()}"


def versions() -> dict[str, str]:
    """Versions of what is compared."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write(folder: Path, stem: str, record: dict[str, Any], table: str) -> None:
    """Both files, each written beside and then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {".json": json.dumps(record, indent=1, ensure_ascii=False) + "\n", ".md": table}
    for suffix, text in texts.items():
        beside = folder / f"{stem}{suffix}.tmp"
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, folder / f"{stem}{suffix}")


if __name__ == "__main__":
    main()
