"""BLEU, chrF, exact match, edit similarity."""

import doctest
import random

import pytest

from gemkit.errors import DataError
from gemkit.metrics import scores, texts
from gemkit.metrics.scores import METRICS
from gemkit.metrics.texts import bleu, chrf, distance, edit_similarity, exact_match, text_figures


def slow_distance(a: str, b: str) -> int:
    if not a or not b:
        return len(a) + len(b)
    change = slow_distance(a[1:], b[1:]) + (a[0] != b[0])
    return min(change, slow_distance(a[1:], b) + 1, slow_distance(a, b[1:]) + 1)


def test_the_distance_is_levenshteins() -> None:
    draw = random.Random(0)
    for _ in range(60):
        a, b = ("".join(draw.choices("abc", k=draw.randrange(6))) for _ in range(2))
        assert distance(a, b) == slow_distance(a, b) == distance(b, a)


def test_matches_and_similarities_leave_white_space_around_out() -> None:
    answers, truth = [" return x\n", "return x", ""], ["return x", "return xy", " "]
    assert exact_match(answers, truth) == pytest.approx(2 / 3)
    assert edit_similarity(answers, truth) == pytest.approx((1 + 8 / 9 + 1) / 3)


def test_bleu_and_chrf_of_known_sentences() -> None:
    """By hand: 3 of 4 words, 2 of 3 pairs, 1 of 2 triples; smoothed, 4-grams give 1 / 2."""
    figure = bleu(["the cat sat there"], ["the cat sat here"])
    assert figure == pytest.approx(100 * (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** 0.25)
    pie, wine = ["我喜欢苹果派"], ["我喜欢苹果酒"]
    assert bleu(pie, wine, "Chinese") > bleu(pie, wine)
    assert chrf(["abc"], ["abc"]) == 100.0 > chrf(["abd"], ["abc"]) > 0


def test_figures_are_those_asked_for() -> None:
    names = ["loss", "exact_match", "bleu", "edit_similarity", "chrf"]
    found = text_figures(names, ["a"], ["a"])
    assert set(found.metrics) == {n for n, m in METRICS.items() if n in names and not m.of_loss}
    assert found.to_dict() == found.metrics
    with pytest.raises(DataError, match="no rows"):
        text_figures(["exact_match"], [], [])


@pytest.mark.parametrize("module", [texts, scores])
def test_examples(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
