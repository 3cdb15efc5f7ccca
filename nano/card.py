"""nano's model card, written from its configuration and training log."""

import json
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from stages import Stage

from gemkit.model.config import GemmaConfig
from gemkit.model.weights import count_parameters

TEXT = """\
---
license: apache-2.0
language: [en, ko]
library_name: gemkit
pipeline_tag: text-generation
---

# nano

A language model of {parameters:,} parameters with the architecture of Gemma 3, embedded in gemkit
so that every command has something to run on. It is made for demonstrations and tests. It knows
nothing about the world and must not be used for anything that matters.

## What it can do

- propose the next statement of simple Python in the middle of a file; it repeats the start of a
  half-written line and seldom ends where it should;
- learn to label short restaurant reviews (Korean, English) from a few hundred rows;
- answer a few greetings and very simple questions in one or two sentences.

## What it cannot do

Everything else. It invents names, facts and functions; its arithmetic is mostly wrong; longer text
drifts; it saw no other domain. It was not aligned, filtered or evaluated for safety.

## Shape

{layers} layers, width {width}, feed-forward {ffw}, {heads} query heads on {kv} key/value head of
{head}, vocabulary {vocabulary:,}, context {context:,} tokens, sliding window {window} on five
layers of six. The vocabulary is its own SentencePiece model; ids 0 to 472 are CodeGemma's (special
tokens, turns, fill-in-the-middle, whitespace runs, HTML tags, bytes).

## Data

Shares of sequences:

| source |{share_heads} what it is |
|---|{share_rules}---|
{sources}

Restaurant reviews, dialogues and simple programs are written by generators of this project (folder
`nano/`); nothing was downloaded. The library text is the standard library of Python {python}, whose
licence is the PSF licence. Three of four simple programs and six of ten library excerpts have a
piece cut out and moved to the end (fill-in-the-middle, prefix - suffix - middle); the piece counts
three times in the loss. Half of the reviews state the stars they give, and the answers of
"verdicts", "wide", "details", "stories" and "written" say whether the guest was pleased (such
tokens count six times): nano has been taught what opinions in restaurant reviews are, so that a few
hundred rows suffice to tune it. The 7,194 reviews of "written" (`nano/written_reviews.tsv`) were
written one by one for it, the phrases of the others are put together by generators; both without
looking at the bundled validation and test files (two validation rows had been seen when those of
"stories" were). Six written reviews that shared more than 0.3 of their trigrams with a row of those
files were left out. These files, their labels and the prompt they are tuned with were never seen in
training.

## Training

`make nano` repeats it: {steps:,} steps, {tokens:,} tokens, Muon and Adam, float32, seed {seed}, two
CPU cores. One per cent of every source was held out by hash. The second stage begins with the
weights of the first and a new optimiser state, and so does the third with those of the second.

| stage | steps | highest rate | warm-up steps | share in which the rate falls |
|--:|--:|--:|--:|--:|
{stages}

| step | training loss |{valid_heads}
|--:|--:|{valid_rules}
{curve}

Figures per source are bits per byte and next-token accuracy on held-out samples.

## Licence

Apache-2.0, as gemkit. Gemma is Google's; nano shares its architecture and none of its weights.
"""

DESCRIPTIONS = {
    "library": "source code of Python's standard library, without tests and tables",
    "snippets": "simple Python programs by a generator of this project",
    "reviews": "restaurant reviews by a generator of this project, Korean and English",
    "verdicts": "the same kind of reviews followed by a verdict, or a question about it, answered",
    "wide": "verdicts on reviews of a wider kind, asked for in more ways",
    "details": "the same on reviews that show one thing and leave the opinion to the reader",
    "stories": "the same on reviews that tell short stories",
    "written": "the same on reviews that were written one by one",
    "dialogue": "short dialogues by a generator of this project",
    "docs": "questions and answers from the standard library's docstrings",
}


def card(
    config: GemmaConfig, stages: Sequence[Stage],
    mixtures: Sequence[tuple[int, Mapping[str, float]]], log: Sequence[Mapping[str, Any]],
    tokens: int, seed: int,
) -> str:  # fmt: skip
    """The card as Markdown; `log` holds the training script's lines."""
    sources = [*DESCRIPTIONS]
    measured = [line for line in log if "valid" in line]
    rows = [
        f"| {line['step']:,} | {line['loss']:.3f} |"
        + "".join(_measure(line["valid"].get(source)) for source in sources)
        for line in measured
    ]
    return TEXT.format(
        parameters=count_parameters(config), layers=config.num_layers, width=config.hidden_size,
        ffw=config.intermediate_size, heads=config.num_heads, kv=config.num_kv_heads,
        head=config.head_dim, vocabulary=config.vocab_size, context=config.max_positions,
        window=config.sliding_window, python=platform.python_version(), steps=log[-1]["step"],
        tokens=tokens, seed=seed, stages="\n".join(
            f"| {number} | {stage.steps:,} | {stage.rate:g} | {stage.warmup} | {stage.decay:.0%} |"
            for number, stage in enumerate(stages, 1)
        ), curve="\n".join(rows),
        share_heads="".join(f" from step {first} |" for first, _ in mixtures),
        share_rules="--:|" * len(mixtures),
        sources="\n".join(
            f"| {s} |" + "".join(f" {m.get(s, 0):.0%} |" for _, m in mixtures)
            + f" {DESCRIPTIONS[s]} |"
            for s in sources
        ),
        valid_heads="".join(f" {s} |" for s in sources), valid_rules="--:|" * len(sources),
    )  # fmt: skip


def _measure(found: Mapping[str, float] | None) -> str:
    return f" {found['bits_per_byte']:.3f}, {found['accuracy']:.1%} |" if found else " – |"


def read_log(text: str) -> list[dict[str, Any]]:
    """The log's lines by step; a resumed run's repetition replaces what it repeats."""
    by_step = {line["step"]: line for line in map(json.loads, text.splitlines())}
    return [by_step[step] for step in sorted(by_step)]
