"""Normalised and calibrated choices."""

import doctest

import numpy as np
import pytest

from gemkit.errors import UsageError
from gemkit.generate import choice
from gemkit.generate.choice import make_choices

LOGS = np.log([[0.5, 0.25, 0.125], [0.1, 0.1, 0.4]])


def test_sums() -> None:
    first, second = make_choices("abc", LOGS, [1, 2, 3])
    assert (first.choice, second.choice) == ("a", "c")
    np.testing.assert_allclose(first.probabilities, np.array([4, 2, 1]) / 7)
    assert second.log_probs == LOGS[1].tolist()


def test_means_do_not_hang_on_the_length() -> None:
    first, _ = make_choices("abc", LOGS, [1, 2, 3], "mean")
    np.testing.assert_allclose(first.probabilities, [1 / 3] * 3)
    assert first.log_probs == LOGS[0].tolist()


@pytest.mark.parametrize("normalize", ["sum", "mean"])
def test_calibration_divides(normalize: str) -> None:
    base = np.log([0.5, 0.25, 0.125])
    first, second = make_choices("abc", LOGS, [1, 2, 3], normalize, base)  # type: ignore[arg-type]
    np.testing.assert_allclose(first.probabilities, [1 / 3] * 3)
    ratios = np.array([0.2, 0.4, 3.2]) ** (1 / np.array([1, 2, 3] if normalize == "mean" else 1))
    np.testing.assert_allclose(second.probabilities, ratios / ratios.sum())


def test_scores_far_below_zero() -> None:
    (found,) = make_choices("ab", np.array([[-4000.0, -4001.0]]), [1, 1])
    np.testing.assert_allclose(found.probabilities, [0.731059, 0.268941], rtol=1e-5)


def test_another_normalisation() -> None:
    with pytest.raises(UsageError, match='normalize is \'max\'; expected "sum" or "mean"'):
        make_choices("abc", LOGS, [1, 2, 3], "max")  # type: ignore[arg-type]


def test_examples() -> None:
    result = doctest.testmod(choice)
    assert (result.failed, result.attempted > 0) == (0, True)
