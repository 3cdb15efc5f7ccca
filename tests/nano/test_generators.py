"""The text nano is trained on: repeatable, varied, and code that runs."""

import ast
import itertools
import random
from collections.abc import Callable
from pathlib import Path

import corpus
import dialogue
import numpy as np
import pytest
import reviews
import snippets

import gemkit
from gemkit.text.fim import SEPARATOR
from gemkit.text.tokenizer import Tokenizer

SAMPLES = Path(gemkit.__file__).parent / "samples" / "reviews"
GENERATORS: dict[str, Callable[[int, int], object]] = {
    "reviews": reviews.reviews,
    "dialogues": dialogue.dialogues,
    "snippets": snippets.snippets,
}


@pytest.mark.parametrize("name", GENERATORS)
def test_the_same_seed_gives_the_same_text(name: str) -> None:
    make = GENERATORS[name]
    assert list(make(7, 50)) == list(make(7, 50))
    assert list(make(7, 50)) != list(make(8, 50))


def test_reviews_hardly_repeat() -> None:
    texts = list(reviews.reviews(0, 3000))
    assert len(set(texts)) > 2900


@pytest.mark.parametrize("source", corpus.WIDE)
@pytest.mark.parametrize("language", ["korean", "english"])
def test_wide_reviews_hardly_repeat_and_leave_no_brace(source: str, language: str) -> None:
    rng = random.Random(0)
    write = getattr(corpus.WIDE[source], f"{language}_review")
    texts = [write(rng, number % 2 == 0) for number in range(2000)]
    assert not any("{" in text or "}" in text for text in texts)
    assert len(set(texts)) > 1800


def test_written_reviews_are_of_their_own_and_unlike_the_held_out_rows() -> None:
    """No review repeats another; none shares a third of its trigrams with a row to judge by."""
    written = corpus.written_reviews()
    assert len({text for text, _, _ in written}) == len(written) > 7000
    assert 0.48 < sum(positive for _, _, positive in written) / len(written) < 0.52
    assert 0.6 < sum(language == "ko" for _, language, _ in written) / len(written) < 0.72

    def trigrams(text: str) -> set[str]:
        text = "".join(text.lower().split())
        return {text[place : place + 3] for place in range(len(text) - 2)}

    held = [
        trigrams(row.split("\t")[1])
        for name in ("valid", "test")
        for row in (SAMPLES / f"{name}.tsv").read_text("utf-8").splitlines()[1:]
    ]
    for text, _, _ in written:
        own = trigrams(text)
        assert all(len(own & other) <= 0.3 * len(own | other) for other in held), text


def test_a_sign_means_what_the_verdict_says_it_means() -> None:
    """The same sign stands for good in some verdicts and for bad in others."""
    drawn = (corpus.wide_verdict(0, number) for number in range(6000))
    answers = [(text.split("\n")[0], answer) for text, answer, _ in drawn if answer in "17"]
    meanings = {dict(pair.split(" = ") for pair in named.split(", "))[sign]
                for named, sign in answers}  # fmt: skip
    assert {"good", "bad", "추천", "비추천"} <= meanings


def test_programs_parse_and_run() -> None:
    for path, source in snippets.snippets(1, 150):
        tree = ast.parse(source, path)
        assert tree.body
    for path, source in snippets.snippets(2, 40):
        exec(compile(source, path, "exec"), {"__name__": "generated"})


def test_dialogues_alternate_and_are_short() -> None:
    for messages in dialogue.dialogues(0, 300):
        roles = [message["role"] for message in messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert all(message["content"].strip() for message in messages)


def test_rated_reviews_rate_as_they_speak() -> None:
    """The stars agree with the opinion: the same words get many stars or few, not both."""
    texts = [corpus.rated_review(0, number) for number in range(4000)]
    liked = [t for t in texts if "★★★★" in t or "5/5" in t]
    hated = [t for t in texts if t.endswith("\n★") or "1/5" in t]
    assert liked and hated
    assert sum("맛있" in t for t in liked) / len(liked) > 3 * sum(
        "맛있" in t for t in hated
    ) / len(hated)


def test_a_split_middle_goes_back_in() -> None:
    rng = random.Random(0)
    for _, source in itertools.islice(snippets.snippets(3, 100), 100):
        prefix, middle, suffix = corpus.split(source, rng)
        assert prefix + middle + suffix == source


@pytest.fixture(scope="module")
def small_corpus() -> corpus.Corpus:
    from gemkit.checkpoint.hub.handles import EMBEDDED

    samples = {
        "library": [(f"m{i}.py", f"def f{i}(x):\n    return x + {i}\n" * 5) for i in range(200)],
        "snippets": list(snippets.snippets(0, 300)),
        "reviews": [corpus.rated_review(0, number) for number in range(300)],
        "verdicts": [corpus.verdict(0, number) for number in range(300)],
        **{
            source: [corpus.wide_verdict(0, number, source) for number in range(300)]
            for source in corpus.WIDE
        },
        "written": corpus.written_reviews()[:300],
        "dialogue": list(dialogue.dialogues(0, 300)),
        "docs": list(dialogue.dialogues(1, 300)),
    }
    return corpus.Corpus(Tokenizer.from_file(EMBEDDED["nano"]), samples, seed=0)


def test_rows_are_packed_and_repeatable(small_corpus: corpus.Corpus) -> None:
    one, two = (small_corpus.rows(4, 128, step=705) for _ in range(2))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not np.array_equal(one["tokens"], small_corpus.rows(4, 128, step=706)["tokens"])
    starts = one["positions"] == 0
    assert (np.diff(one["segments"], axis=1) > 0).sum() == starts[:, 1:].sum()
    assert (one["tokens"][starts] == small_corpus._tokenizer.bos_id).all()


def test_a_target_is_the_next_token_of_the_same_sequence(small_corpus: corpus.Corpus) -> None:
    batch = small_corpus.rows(4, 128, step=1)
    wanted = batch["target_ids"].reshape(4, 128)[:, :-1]
    weights = batch["target_weights"].reshape(4, 128)[:, :-1] > 0
    same = batch["segments"][:, 1:] == batch["segments"][:, :-1]
    assert (weights == same).all()
    assert (wanted[same] == batch["tokens"][:, 1:][same]).all()


def test_code_with_its_middle_cut_out_ends_with_it(small_corpus: corpus.Corpus) -> None:
    rng = random.Random(0)
    tokenizer = small_corpus._tokenizer
    middle, end = (tokenizer.token_to_id(p) for p in ("<|fim_middle|>", SEPARATOR))
    drawn = [small_corpus.sample("snippets", rng, 200)[0] for _ in range(60)]
    cut = [ids for ids in drawn if middle in ids]
    assert len(cut) > 30
    assert all(len(ids) <= 200 and ids[-1] == end for ids in cut)
