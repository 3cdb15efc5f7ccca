"""Reads many damaged files: `make fuzz`, or python tests/fuzz/run.py --count 20000.

Every one must be read or refused in one line: no other exception, no crash, no hang, no more
memory than a little, nothing written and nothing opened outside the sample's folder. The reading
is done by a second process, which is started anew when it dies.
"""

import argparse
import json
import os
import random
import resource
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
STARTS_WITHIN, HANGS_AFTER = 300.0, 60.0
"""Seconds until the first word of the reading process, and without a word after it."""
MOST_SECONDS, MOST_BYTES = 3.0, 2**29
"""Processor time and address space a damaged sample of a few kilobytes may take."""


def damaged(folder: Path, seed: int, number: int) -> str:
    """Damages one file below the folder; says which."""
    from mutate import mutate

    rng = random.Random(f"{seed} {number}")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    # As many small files of settings as large ones of weights.
    file = rng.choice(files)
    file.write_bytes(mutate(file.read_bytes(), rng))
    return file.relative_to(folder).as_posix()


def work(kinds: list[str], seed: int, first: int, count: int, base: Path) -> None:
    """Reads samples from `first` on, `count` of each kind; a line of JSON before and after each."""
    sys.path[:0] = [str(HERE.parents[1] / "src"), str(HERE.parent), str(HERE)]
    from readers import READERS
    from toy_vocabulary import small_vocabulary

    from gemkit.errors import GemkitError

    for kind in kinds:
        make, read = READERS[kind]
        whole = base / "whole" / kind
        if not whole.exists():
            whole.mkdir(parents=True)
            make(whole, small_vocabulary())
        read(whole)
    _watch(base)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, resource.RLIM_INFINITY))
    for number in range(first, count * len(kinds)):
        kind = kinds[number // count]
        folder = base / "sample"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(base / "whole" / kind, folder)
        _say(number, file=damaged(folder, seed, number % count))
        began, outcome = time.process_time(), "read"
        try:
            READERS[kind].read(folder)
        except GemkitError as error:
            outcome = "refused" if "\n" not in str(error) else f"several lines: {error!s:.200}"
        except BaseException as error:
            outcome = f"{type(error).__name__}: {error!s:.200}"
        if time.process_time() - began > MOST_SECONDS:
            outcome = f"{time.process_time() - began:.1f} s of processor time, then {outcome}"
        _say(number, outcome=_OPENED.pop() if _OPENED else outcome)


_OPENED: list[str] = []


def _watch(base: Path) -> None:
    """Notes what Python opens elsewhere than in the sample or among the program's own files."""
    roots = (str(base), sys.prefix, sys.base_prefix, str(HERE.parents[1]), "/proc", "/dev", "/usr")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if not path.startswith(roots):
                _OPENED.append(f"opened {path}")

    sys.addaudithook(hook)


def _say(number: int, **what: str) -> None:
    print(json.dumps({"number": number, **what}), flush=True)


def outcomes(
    kinds: list[str], seed: int, count: int, base: Path
) -> Iterator[tuple[int, str, str]]:
    """(number, damaged file, outcome) of each sample; `count` of one kind, then of the next."""
    number, total = 0, count * len(kinds)
    while number < total:
        command = [sys.executable, __file__, "--work", "--seed", str(seed), "--first", str(number)]
        command += ["--count", str(count), "--base", str(base)]
        command += [word for kind in kinds for word in ("--kind", kind)]
        file = ""
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reader:
            for line in _lines(reader):
                said = json.loads(line)
                if "file" in said:
                    number, file = said["number"], said["file"]
                else:
                    yield number, file, said["outcome"]
                    number += 1
                    file = ""
            reader.kill()
            assert reader.stderr is not None
            ending = reader.stderr.read().decode("utf-8", "replace").strip()[-300:]
        if number < total:
            why = "hung" if reader.returncode == -9 else f"ended with {reader.returncode}"
            if not file:
                raise RuntimeError(f"the reading process does not start: {why}: {ending}")
            yield number, file, f"the process {why}: {ending}"
            number += 1


def _lines(reader: subprocess.Popen[bytes]) -> Iterator[bytes]:
    assert reader.stdout is not None
    patience = STARTS_WITHIN
    with selectors.DefaultSelector() as selector:
        selector.register(reader.stdout, selectors.EVENT_READ)
        while selector.select(patience):
            line = reader.stdout.readline()
            if not line:
                return
            yield line
            patience = HANGS_AFTER


def fuzz(kinds: list[str], seed: int, count: int) -> list[str]:
    """Reads `count` damaged samples of each kind; returns what went wrong, a line each."""
    wrong = []
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as base:
        for number, file, outcome in outcomes(kinds, seed, count, Path(base)):
            kind, sample = kinds[number // count], number % count
            counts[outcome if outcome in ("read", "refused") else "wrong"] += 1
            if outcome not in ("read", "refused"):
                wrong.append(f"{kind}, seed {seed}, sample {sample}, {file}: {outcome}")
            if sample == count - 1:
                told = ", ".join(f"{n} {what}" for what, n in sorted(counts.items()))
                print(f"{kind}: {count} damaged, {told}", flush=True)
                counts.clear()
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="samples, of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", help="default every kind")
    # How the reading process is called; its count is that of each kind.
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    kinds = given.kind or KINDS
    if given.work:
        work(kinds, given.seed, given.first, given.count, given.base)
        return 0
    began = time.monotonic()
    wrong = fuzz(kinds, given.seed, -(-given.count // len(kinds)))
    for line in wrong:
        print(line)
    print(f"{len(wrong)} wrong, {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


KINDS = [
    "hf", "hf sharded", "keras", "keras sharded", "flax", "gguf", "gguf q8_0", "tokenizer.model",
    "peft", "keras lora", "flax lora", "gguf lora",
]  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
