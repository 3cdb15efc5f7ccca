"""gemkit against itself: batch 8 and 1, starts read before or not, drafts, a second process."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from measure import Row, Seconds, beside, interleave, limited, rates
from models import FULL, LARGE, Size, random_ids, weights

import gemkit
from gemkit.generate import score
from gemkit.generate.engine import Engine
from gemkit.generate.prefix import PrefixCache
from gemkit.generate.request import Request
from gemkit.model.weights import Params

BATCH = 8
PREFIX, REST = 1024, 6
REPEATS = 4
INSTRUCTION = 200
"""Tokens that begin all texts to be labelled."""
MORE = 10
"""Texts labelled with a shared start for each one that is scored whole."""
LABELS = ((301,), (302,))
EDITED = Path(gemkit.__file__).parent / "samples/code/bank_account.py"
FIRST_TOKEN = 0.15


def run(size: Size) -> list[Row]:
    """Rows for batches, prefixes, labels and drafts, for two shapes; for nano and starting."""
    rows = [*shape_rows(size, "bfloat16"), batch_row(size, weights(size), "float32")]
    if size is FULL:
        rows += shape_rows(LARGE, "bfloat16")
    _, found = interleave({"nano": editing(size)}, size.rounds)
    return rows + nano_rows(found["nano"], size)


def shape_rows(size: Size, dtype: str) -> list[Row]:
    """What a shape gains by batches, a start read before, and shared instructions."""
    params = weights(size, dtype)
    sides: dict[str, Callable[[], Seconds]] = {
        "prefix": prefix(size, params), "label": label(size, params),
        "plain": quoting(size, params, False), "draft": quoting(size, params, True),
    }  # fmt: skip
    _, found = interleave(sides, size.rounds)
    quoted = {name: rates(size.new, found[name]["whole"]) for name in ("plain", "draft")}
    labelled = {
        name: rates(texts, found["label"][name])
        for name, texts in (("shared", size.texts * MORE), ("whole", size.texts))
    }
    named = f"{size.name} in {dtype}"
    return [
        batch_row(size, params, dtype),
        beside(
            f"{named}, first token, {PREFIX} of {PREFIX + REST} tokens read before", "s",
            found["prefix"]["hit"], found["prefix"]["miss"], "beside nothing read before", 15,
            lower_is_better=True,
        ),
        beside(
            f"{named}, labels of {size.text} tokens after {INSTRUCTION} shared", "texts/s",
            labelled["shared"], labelled["whole"],
            f"{size.texts * MORE} texts, beside {size.texts} scored whole", 4,
        ),
        beside(
            f"{named}, prompt lookup, random weights", "tokens/s", quoted["draft"],
            quoted["plain"], f"a prompt of {REPEATS} repeats",
        ),
    ]  # fmt: skip


def batch_row(size: Size, params: Params, dtype: str) -> Row:
    """Tokens per second of `BATCH` answers at once, beside one."""
    sides = {"one": batch(size, params, 1), "batch": batch(size, params, BATCH)}
    _, found = interleave(sides, size.rounds)
    steps = size.new - 1
    one, many = rates(steps, found["one"]["steps"]), rates(BATCH * steps, found["batch"]["steps"])
    what = f"{size.name} in {dtype}, batch {BATCH} beside batch 1"
    return beside(what, "tokens/s", many, one, "the same engine", 3)


def nano_rows(found: dict[str, list[float]], size: Size) -> list[Row]:
    """What nano does when a file is edited, and how soon it begins."""
    speed = {name: rates(1, found[name]) for name in ("draft", "plain")}
    started = [started_twice() for _ in range(size.rounds)]
    compiled = sum(each["programs"] for each in started)
    return [
        beside(
            "prompt lookup, nano editing a file", "answers/s", speed["draft"], speed["plain"],
            f"{EDITED.name} written again with another name; the same answer", 1.3,
        ),
        limited("first token, nano, warm", "s", found["first"], FIRST_TOKEN, "through lm.stream"),
        beside(
            "first token, nano, second process", "s", [each["second"] for each in started],
            [each["first"] for each in started],
            f"from loading on, beside an empty cache of programs; {compiled:.0f} programs that "
            "take 0.1 s or more were compiled anew", lower_is_better=True,
        ),
    ]  # fmt: skip


def label(size: Size, params: Params) -> Callable[[], Seconds]:
    """Scores two labels of texts that begin alike: with the start shared, and whole."""
    texts = random_ids(size, size.texts * MORE, INSTRUCTION + size.text)
    texts[:, :INSTRUCTION] = texts[0, :INSTRUCTION]
    prompts = texts.tolist()

    def seconds(count: int) -> float:
        began = time.perf_counter()
        score.score_continuations(params, size.config, prompts[:count], LABELS)
        return time.perf_counter() - began

    def sides() -> Seconds:
        shared = seconds(len(prompts))
        with mock.patch.object(score, "shared_length", lambda _: 0):
            return {"shared": shared, "whole": seconds(size.texts)}

    return sides


def editing(size: Size) -> Callable[[], Seconds]:
    """Nano writes a file again that it was given, with a class renamed at its start."""
    lm = gemkit.load("nano", prefix_bytes=0)
    text = EDITED.read_text("utf-8")
    name = text.split("class ")[1].split(":")[0].split("(")[0]
    start = text[: text.index("    def ", text.index("class "))]
    prompt = f"{text}\n\n\n{start.replace(name, 'Other' + name)}"
    new = 4 * size.new

    def sides() -> Seconds:
        found: Seconds = {}
        answers = []
        for side, draft in (("draft", True), ("plain", False)):
            began = time.perf_counter()
            answers.append(lm.generate(prompt, max_new_tokens=new, draft=draft))
            found[side] = time.perf_counter() - began
        assert answers[0] == answers[1]
        began = time.perf_counter()
        pieces = lm.stream("Dear", max_new_tokens=4)
        next(pieces)
        return {**found, "first": time.perf_counter() - began}

    return sides


CHILD = """
import time, gemkit
from gemkit.cli.runtime import prepare_jax
prepare_jax()
began = time.perf_counter()
next(gemkit.load("nano").stream("Dear", max_new_tokens=4))
print(time.perf_counter() - began)
"""


def started_twice() -> Seconds:
    """Two processes that share a cache of programs: seconds of each, programs the second adds."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        seconds, programs = [], []
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-c", CHILD], env=environment, check=True, capture_output=True,
                text=True,
            )  # fmt: skip
            seconds.append(float(done.stdout))
            programs.append(len(list(Path(folder).rglob("*-cache"))))
    return {"first": seconds[0], "second": seconds[1], "programs": programs[1] - programs[0]}


def batch(size: Size, params: Params, rows: int) -> Callable[[], Seconds]:
    """Answers `rows` prompts at once; the time after the first tokens."""
    prompts = random_ids(size, rows, size.prompt).tolist()

    def decode() -> Seconds:
        engine = Engine(params, size.config, slots=rows)
        answers = [engine.add(Request(tuple(prompt), size.new)) for prompt in prompts]
        while not all(answer.tokens for answer in answers):
            engine.step(1)
        began = time.perf_counter()
        while engine.running():
            engine.step()
        return {"steps": time.perf_counter() - began}

    return decode


def prefix(size: Size, params: Params) -> Callable[[], Seconds]:
    """The first token of a prompt, then of another one that starts alike."""
    start, rests = random_ids(size, 1, PREFIX)[0].tolist(), random_ids(size, 2, REST).tolist()

    def first() -> Seconds:
        engine = Engine(params, size.config, slots=1, prefixes=PrefixCache())

        def seconds(rest: list[int]) -> float:
            began = time.perf_counter()
            answer = engine.add(Request((*start, *rest), 4))
            while not answer.tokens:
                engine.step(1)
            took = time.perf_counter() - began
            engine.cancel(answer)
            return took

        return {"miss": seconds(rests[0]), "hit": seconds(rests[1])}

    return first


def quoting(size: Size, params: Params, draft: bool) -> Callable[[], Seconds]:
    """Continues a text that repeats itself."""
    prompt = random_ids(size, 1, size.prompt)[0].tolist() * REPEATS

    def decode() -> Seconds:
        engine = Engine(params, size.config, slots=1)
        began = time.perf_counter()
        engine.add(Request(tuple(prompt), size.new, draft=draft))
        while engine.running():
            engine.step()
        return {"whole": time.perf_counter() - began}

    return decode
