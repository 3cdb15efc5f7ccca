"""Metrics of generated texts: BLEU and chrF by sacrebleu, exact match, edit similarity."""

from collections.abc import Callable, Sequence

import numpy as np

from gemkit.errors import DataError
from gemkit.metrics.scores import Figures

BLEU_TOKENIZERS = {"Chinese": "zh", "Japanese": "char", "Korean": "char", "Thai": "char"}
"""How sacrebleu cuts a language that has no spaces, or none that say much, into words."""


def bleu(answers: Sequence[str], references: Sequence[str], language: str = "") -> float:
    """Corpus BLEU, 0 to 100 (Post 2018, arXiv:1804.08771).

    >>> bleu(["the cat sat on the mat"], ["the cat sat on the mat"])
    100.0
    """
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(tokenize=BLEU_TOKENIZERS.get(language, "13a"), force=True)
    return round(float(metric.corpus_score(_some(answers), [list(references)]).score), 9)


def chrf(answers: Sequence[str], references: Sequence[str]) -> float:
    """Corpus chrF, 0 to 100: F2 of character 1- to 6-grams (Popović 2015, W15-3049)."""
    from sacrebleu.metrics.chrf import CHRF

    return round(float(CHRF().corpus_score(_some(answers), [list(references)]).score), 9)


def exact_match(answers: Sequence[str], references: Sequence[str]) -> float:
    """Share of the answers that are their reference, white space around both left out."""
    pairs = zip(_some(answers), references, strict=True)
    return sum(answer.strip() == reference.strip() for answer, reference in pairs) / len(answers)


def edit_similarity(answers: Sequence[str], references: Sequence[str]) -> float:
    """Mean of 1 - distance / length of the longer, white space around both left out.

    As in RepoCoder (Zhang et al. 2023, arXiv:2303.12570); two empty texts are alike.

    >>> edit_similarity(["return x"], ["return y"])
    0.875
    """
    total = 0.0
    for answer, reference in zip(_some(answers), references, strict=True):
        a, b = answer.strip(), reference.strip()
        total += 1 - distance(a, b) / max(len(a), len(b), 1)
    return total / len(answers)


def distance(a: str, b: str) -> int:
    """Levenshtein's: insertions, deletions and replacements that make `a` into `b`.

    >>> distance("kitten", "sitting")
    3
    """
    other = np.array([ord(character) for character in b], np.int64)
    places = np.arange(len(b) + 1)
    row = places.copy()
    for number, character in enumerate(a, 1):
        best = np.minimum(row[1:] + 1, row[:-1] + (other != ord(character)))
        # Insertions run along the row: each place may be reached from any place before it.
        row = np.minimum.accumulate(np.concatenate([[number], best]) - places) + places
    return int(row[-1])


def _some(answers: Sequence[str]) -> list[str]:
    if not answers:
        raise DataError("no rows to score", "at least one")
    return list(answers)


def text_figures(
    names: Sequence[str], answers: Sequence[str], references: Sequence[str], language: str = ""
) -> Figures:
    """The metrics of this file that are among `names`.

    Args:
      language: of the texts, in English; only BLEU asks.
    """
    known: dict[str, Callable[[], float]] = {
        "bleu": lambda: bleu(answers, references, language),
        "chrf": lambda: chrf(answers, references),
        "exact_match": lambda: exact_match(answers, references),
        "edit_similarity": lambda: edit_similarity(answers, references),
    }
    return Figures({name: known[name]() for name in names if name in known})
