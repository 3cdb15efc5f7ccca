"""The text nano is trained on, and how it is cut into packed rows.

Sources: the source and docstrings of the running Python's standard library, and text that this
project's own generators write. Everything is drawn from a seed: row `n` of a run is always the
same for the same Python and the same generators.
"""

import ast
import hashlib
import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import dialogue
import numpy as np
import review_details
import review_more
import review_stories
import reviews
import snippets

from gemkit.text.chat import chat_ids
from gemkit.text.fim import SEPARATOR, fim_ids
from gemkit.text.tokenizer import Tokenizer

# Share of sequences by source, from a step on. Reviews are short: half of the sequences is about
# a quarter of the tokens.
MIXTURES: tuple[tuple[int, dict[str, float]], ...] = (
    (0, {"library": 0.16, "snippets": 0.28, "reviews": 0.12, "verdicts": 0.32,
         "dialogue": 0.10, "docs": 0.02}),
    (600, {"library": 0.10, "snippets": 0.28, "verdicts": 0.52, "dialogue": 0.08, "docs": 0.02}),
    # The second stage (`stages.py`): reviews of a wider kind, and enough of the rest to keep it.
    (4000, {"library": 0.05, "snippets": 0.12, "verdicts": 0.14, "wide": 0.64,
            "dialogue": 0.04, "docs": 0.01}),
    (4400, {"library": 0.05, "snippets": 0.12, "verdicts": 0.10, "wide": 0.42, "details": 0.26,
            "dialogue": 0.04, "docs": 0.01}),
    (4900, {"library": 0.05, "snippets": 0.12, "verdicts": 0.07, "wide": 0.27, "details": 0.16,
            "stories": 0.28, "dialogue": 0.04, "docs": 0.01}),
    # The third: what people would write, each review by itself.
    (5300, {"library": 0.05, "snippets": 0.13, "verdicts": 0.03, "wide": 0.07, "stories": 0.06,
            "written": 0.60, "dialogue": 0.05, "docs": 0.01}),
)  # fmt: skip
SOURCES = tuple(dict.fromkeys(source for _, shares in MIXTURES for source in shares))
# A review tells its opinion by few tokens among many, and a cut-out middle is the smaller part of
# its file; these count for more.
VERDICT_WEIGHT = 6.0
MIDDLE_WEIGHT = 3.0
FIM_SHARE = {"library": 0.6, "snippets": 0.75}
POOL = {
    "snippets": 60_000, "reviews": 80_000, "verdicts": 200_000, "wide": 240_000,
    "details": 80_000, "stories": 80_000, "dialogue": 60_000,
}  # fmt: skip
HELD_OUT_SHARE = 0.01
WINDOW_LINES = (8, 48)
# The end of a row that is too short for code with a middle holds the start of something longer.
LEAST_ROOM = 64

RATINGS = {
    "ko": ("별점: {count}점", "평점 {count}/5", "별점 {count}개", "{stars}", "점수: {count}"),
    "en": ("Rating: {count}/5", "{count} stars", "{count} out of 5", "{stars}", "Score: {count}"),
}

QUESTIONS = {
    "ko": (
        ("이 리뷰는 긍정인가요, 부정인가요?\n{text}", "부정", "긍정"),
        ("{text}\n이 손님은 만족했나요?", "아니요", "네"),
        ("다음 후기의 분위기를 한 단어로 말해 줘.\n{text}", "나쁨", "좋음"),
    ),
    "en": (
        ("Is this review positive or negative?\n{text}", "negative", "positive"),
        ("{text}\nDid the guest like it?", "no", "yes"),
        ("Say in one word how this review sounds.\n{text}", "bad", "good"),
    ),
}

VERDICTS = {
    "ko": (
        ("불만족", "만족"), ("비추천", "추천"), ("★", "★★★★★"), ("★★", "★★★★"), ("별로", "최고"),
        ("안 감", "또 감"), ("👎", "👍"), ("나쁨", "좋음"), ("부정", "긍정"),
    ),
    "en": (
        ("not recommended", "recommended"), ("★", "★★★★★"), ("★★", "★★★★"), ("unhappy", "happy"),
        ("never again", "will return"), ("👎", "👍"), ("bad", "good"), ("negative", "positive"),
    ),
}  # fmt: skip

# How a verdict of a wider kind is asked for; never by the prompt of `gemkit tune classify`.
CUES = {
    "ko": (
        "{text}\n평가:\n", "{text}\n한 줄 평:\n", "후기: {text}\n결론:\n", "리뷰: {text}\n답:\n",
        "{text}\n->\n", "\"{text}\"\n분류:\n", "{text}\n판정:\n", "[리뷰]\n{text}\n[느낌]\n",
    ),
    "en": (
        "{text}\nVerdict:\n", "Review: {text}\nSentiment:\n", "{text}\nIn short:\n",
        "{text}\n->\n", "\"{text}\"\nClass:\n", "Text: {text}\nAnswer:\n",
        "[review]\n{text}\n[mood]\n",
    ),
}  # fmt: skip
WRITTEN = Path(__file__).with_name("written_reviews.tsv")
WIDE = {"wide": review_more, "details": review_details, "stories": review_stories}
SIGNS = (*"0123456789", *"ABCDXYab", "가", "나", "O", "X")

# Tables, tests and vendored trees teach a small model nothing.
SKIPPED_PARTS = {
    "site-packages", "test", "tests", "idle_test", "encodings", "pydoc_data", "lib2to3",
    "__pycache__", "ensurepip", "__phello__", "turtledemo", "idlelib", "msilib",
}  # fmt: skip
MOST_BYTES = 120_000


def held_out(name: str) -> bool:
    """Whether a file or sample belongs to validation: decided by its name or text alone."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def library_files() -> list[tuple[str, str]]:
    """(path, source) of the standard library's modules, sorted by path."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = []
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if SKIPPED_PARTS.isdisjoint(relative.parts) and path.stat().st_size < MOST_BYTES:
            files.append((relative.as_posix(), path.read_text(encoding="utf-8", errors="replace")))
    return files


def documented(files: list[tuple[str, str]]) -> list[list[dict[str, str]]]:
    """Question and answer pairs from the docstrings of public functions and classes."""
    found = []
    for path, source in files:
        module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        try:
            tree = ast.parse(source)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            text = (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ")
            if 20 < len(text) < 300:
                question = f"What does {node.name} in {module} do?"
                if isinstance(node, ast.ClassDef):
                    question = f"What is {node.name} in {module}?"
                found.append(
                    [{"role": "user", "content": question}, {"role": "assistant", "content": text}]
                )
    return found


def pools(seed: int) -> dict[str, list]:
    """Every source's samples."""
    files = library_files()
    return {
        "library": files,
        "snippets": list(snippets.snippets(seed, POOL["snippets"])),
        "reviews": [rated_review(seed, number) for number in range(POOL["reviews"])],
        "verdicts": [verdict(seed, number) for number in range(POOL["verdicts"])],
        **{
            source: [wide_verdict(seed, number, source) for number in range(POOL[source])]
            for source in WIDE
        },
        "written": written_reviews(),
        "dialogue": list(dialogue.dialogues(seed, POOL["dialogue"])),
        "docs": documented(files),
    }


def review(rng: random.Random, writer: ModuleType = reviews) -> tuple[str, str, bool]:
    """Text, language and whether the guest was satisfied."""
    positive, korean = rng.random() < 0.5, rng.random() < reviews.KOREAN_SHARE
    text = (writer.korean_review if korean else writer.english_review)(rng, positive)
    return text, "ko" if korean else "en", positive


def rating(rng: random.Random, language: str, positive: bool) -> str:
    """A line that gives few stars or many."""
    count = rng.choice((4, 5, 5) if positive else (1, 1, 2))
    return rng.choice(RATINGS[language]).format(count=count, stars="★" * count)


def rated_review(seed: int, number: int) -> str:
    """A review; every other one says how many stars it gives, mostly after the text."""
    rng = random.Random(f"{seed} review {number}")
    text, language, positive = review(rng)
    if rng.random() < 0.5:
        return text
    line = rating(rng, language, positive)
    return f"{line}\n{text}" if rng.random() < 0.2 else f"{text}\n{line}"


def verdict(seed: int, number: int) -> tuple[str, str, bool]:
    """(text, answer, in turns): a review and what follows from it, in few words.

    Without digits: one star for bad teaches that 1 is bad, which a label 1 for good has to unlearn.
    """
    rng = random.Random(f"{seed} verdict {number}")
    text, language, positive = review(rng)
    if rng.random() < 0.5:
        bad, good = rng.choice(VERDICTS[language])
        return f"{text}\n", good if positive else bad, False
    question, bad, good = rng.choice(QUESTIONS[language])
    return question.format(text=text), good if positive else bad, True


def wide_verdict(seed: int, number: int, source: str = "wide") -> tuple[str, str, bool]:
    """`posed` of a review of a wider kind."""
    rng = random.Random(f"{seed} {source} verdict {number}")
    return posed(rng, *review(rng, WIDE[source]))


def posed(rng: random.Random, text: str, language: str, positive: bool) -> tuple[str, str, bool]:
    """A verdict on a review, asked for in one of many ways: (text, answer, in turns).

    Some ways name the answers first, with signs drawn anew each time (`2 = good, 7 = bad`), so that
    a sign means nothing by itself.
    """
    bad, good = rng.choice(VERDICTS[language])
    kind = rng.random()
    if kind < 0.3:
        return f"{text}\n", good if positive else bad, False
    if kind < 0.5:
        question, bad, good = rng.choice(QUESTIONS[language])
        return question.format(text=text), good if positive else bad, True
    if kind < 0.8:
        return rng.choice(CUES[language]).format(text=text), good if positive else bad, False
    signs = rng.sample(SIGNS, 2)
    named = [f"{signs[0]} = {bad}", f"{signs[1]} = {good}"]
    asked = f"{', '.join(rng.sample(named, 2))}\n{rng.choice(CUES[language])}".format(text=text)
    return asked, signs[positive], rng.random() < 0.3


def written_reviews() -> list[tuple[str, str, bool]]:
    """Text, language and opinion of the reviews written one by one for nano."""
    rows = []
    for line in WRITTEN.read_text("utf-8").splitlines():
        label, text = line.split("\t")
        rows.append((text, "ko" if re.search("[가-힣]", text) else "en", label == "1"))
    return rows


def vocabulary_texts(samples: dict[str, list]) -> Iterator[str]:
    """A balanced share of all sources, to learn the vocabulary from."""
    yield from (source for _, source in samples["library"][::2])
    yield from (source for _, source in samples["snippets"][:12_000])
    yield from samples["reviews"][:40_000]
    for messages in samples["dialogue"][:8_000]:
        yield from (message["content"] for message in messages)


class Corpus:
    """Draws token sequences and packs them into rows."""

    def __init__(self, tokenizer: Tokenizer, samples: dict[str, list], seed: int) -> None:
        self._tokenizer = tokenizer
        self._seed = seed
        self._separator = tokenizer.token_to_id(SEPARATOR)
        self._pools: dict[bool, dict[str, list]] = {False: {}, True: {}}
        for name, pool in samples.items():
            for valid in (False, True):
                kept = [sample for sample in pool if held_out(_name(name, sample)) == valid]
                self._pools[valid][name] = kept
        # Long files are drawn more often, so that every line has the same chance.
        self._weights = {
            valid: np.cumsum([len(source) for _, source in self._pools[valid]["library"]])
            for valid in (False, True)
        }

    def rows(self, count: int, length: int, step: int, valid: bool = False) -> dict:
        """A batch: tokens, positions, segments [B, T] and the targets of every position [B*T].

        Sequences follow each other without crossing; the last of a row is cut at its end.
        """
        rng = random.Random(f"{self._seed} {step} {valid}")
        tokens = np.zeros((count, length + 1), np.int32)
        segments = np.zeros_like(tokens)
        positions = np.zeros_like(tokens)
        weights = np.zeros(tokens.shape, np.float32)
        for row in range(count):
            filled, segment = 0, 0
            while filled < length + 1:
                ids, weighs = self.draw(rng, length + 1 - filled, step, valid)
                segment += 1
                end = filled + len(ids)
                tokens[row, filled:end] = ids
                segments[row, filled:end] = segment
                weights[row, filled:end] = weighs
                positions[row, filled:end] = np.arange(len(ids))
                filled = end
        same = segments[:, 1:] == segments[:, :-1]
        return {
            "tokens": tokens[:, :-1],
            "positions": positions[:, :-1],
            "segments": segments[:, :-1],
            "target_index": np.arange(count * length, dtype=np.int32),
            "target_ids": tokens[:, 1:].reshape(-1),
            "target_weights": np.where(same, weights[:, 1:], 0).reshape(-1),
        }

    def draw(
        self, rng: random.Random, room: int, step: int, valid: bool = False
    ) -> tuple[list[int], list[float]]:
        """One sequence of a source drawn by the mixture, at most `room` tokens, and weights."""
        mixture = next(shares for first, shares in reversed(MIXTURES) if step >= first)
        source = rng.choices(list(mixture), list(mixture.values()))[0]
        ids, weights = self.sample(source, rng, room if room >= LEAST_ROOM else 10 * room, valid)
        return ids[:room], weights[:room]

    def sample(
        self, source: str, rng: random.Random, room: int, valid: bool = False
    ) -> tuple[list[int], list[float]]:
        """One sequence of the given source, `<bos>` first, and the weight of each token's loss.

        Code with its middle cut out is trimmed far from the cut to `room` tokens; other
        sequences may be longer.
        """
        pool, encode = self._pools[valid][source], self._tokenizer.encode
        if source == "written":
            return self._verdict(*posed(rng, *rng.choice(pool)))
        if source == "verdicts" or source in WIDE:
            return self._verdict(*rng.choice(pool))
        if source in ("library", "snippets"):
            return self._code(source, pool, rng, room, valid)
        if source == "reviews":
            ids = encode(rng.choice(pool), bos=True, eos=True)
        else:
            ids = chat_ids(self._tokenizer, rng.choice(pool), add_generation_prompt=False)[0]
        return ids, [1.0] * len(ids)

    def _verdict(self, text: str, answer: str, in_turns: bool) -> tuple[list[int], list[float]]:
        if not in_turns:
            ids, told = self._tokenizer.encode(text, bos=True), self._tokenizer.encode(answer)
            weights = [1.0] * len(ids) + [VERDICT_WEIGHT] * len(told)
            return [*ids, *told, self._tokenizer.eos_id], [*weights, 1.0]
        turns = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
        ids, own = chat_ids(self._tokenizer, turns, add_generation_prompt=False)
        return ids, [VERDICT_WEIGHT if learnt else 1.0 for learnt in own]

    def _code(
        self, source: str, pool: list, rng: random.Random, room: int, valid: bool
    ) -> tuple[list[int], list[float]]:
        encode = self._tokenizer.encode
        if source == "library":
            ends = self._weights[valid]
            path, text = pool[int(np.searchsorted(ends, rng.random() * ends[-1]))]
            text = window(text, rng)
        else:
            path, text = rng.choice(pool)
        named = path if rng.random() < 0.5 else None
        if rng.random() < FIM_SHARE[source]:
            prefix, middle, suffix = split(text, rng)
            answer = [*encode(middle), self._separator]
            budget = max(room - len(answer), LEAST_ROOM)
            ids = fim_ids(self._tokenizer, prefix, suffix, path=named, budget=budget)
            weights = [1.0] * len(ids) + [MIDDLE_WEIGHT] * len(answer)
            return [*ids, *answer], weights
        ids = encode(f"{named}\n{text}" if named else text, bos=True, eos=True)
        return ids, [1.0] * len(ids)


def window(text: str, rng: random.Random) -> str:
    """Some consecutive lines, begun at a blank line's end where there is one nearby."""
    lines = text.splitlines(keepends=True)
    count = rng.randint(*WINDOW_LINES)
    start = rng.randrange(max(1, len(lines) - count // 2))
    for index in range(start, max(start - 20, 0), -1):
        if not lines[index - 1].strip():
            start = index
            break
    return "".join(lines[start : start + count])


def split(text: str, rng: random.Random) -> tuple[str, str, str]:
    """Prefix, middle and suffix: the rest of a line, whole lines, or any span of characters."""
    lines = text.splitlines(keepends=True)
    starts = np.cumsum([0] + [len(line) for line in lines])
    full = [i for i, line in enumerate(lines) if line.strip()]
    kind = rng.random()
    if not full or kind < 0.15:
        first, last = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        last = min(last, first + 120)
    else:
        index = rng.choice(full)
        line = lines[index]
        indent = len(line) - len(line.lstrip())
        end = int(starts[index]) + len(line.rstrip("\n"))
        if kind < 0.6:
            first = int(starts[index]) + rng.choice(_places(line.rstrip("\n"), indent, rng))
            last = end
        elif kind < 0.75:
            first, last = sorted(rng.randrange(indent, len(line)) for _ in range(2))
            first, last = int(starts[index]) + first, int(starts[index]) + last
        else:
            first = int(starts[index]) + indent
            end_line = min(index + rng.randint(0, 4), len(lines) - 1)
            last = int(starts[end_line]) + len(lines[end_line].rstrip("\n"))
    return text[:first], text[first:last], text[last:]


def _places(line: str, indent: int, rng: random.Random) -> list[int]:
    """Where a line may be cut: mostly where a person stops typing, else anywhere."""
    places = list(range(indent, len(line) + 1))
    if rng.random() < 0.35:
        return places
    return [place for place in places if place == indent or not line[place - 1].isalnum()]


def _name(source: str, sample: object) -> str:
    if source in ("library", "snippets"):
        return sample[0] if source == "library" else sample[1]  # type: ignore[index]
    return str(sample)
