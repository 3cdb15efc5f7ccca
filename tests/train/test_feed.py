"""The input of a run: by step number alone, made ahead, and gone when it is not wanted."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tiny import ids

from gemkit.train.feed import Feed, prefetched
from gemkit.train.packing import Example, choose_shape, epoch_batches
from gemkit.train.padded import Padding


def examples(count: int = 11) -> list[Example]:
    return [Example(ids(4 + n, n), [False] * 2 + [True] * (2 + n)) for n in range(count)]


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first
    )


def test_steps_are_the_batches_of_the_epochs() -> None:
    feed = Feed(examples(), 48, epochs=2, seed=3)
    rows, length = choose_shape([len(e.ids) for e in examples()], 48)
    for step in range(2 * feed.per_epoch):
        epoch, place = divmod(step, feed.per_epoch)
        batch = epoch_batches(examples(), length, rows, 3, epoch, target_slots=64)[place]
        portion = feed.portion(step)
        assert np.array_equal(portion.arrays["tokens"], batch.tokens)
        assert portion.tokens == (batch.segments > 0).sum() and portion.slots == rows * length
    assert sum(feed.portion(step).rows for step in range(feed.per_epoch)) == len(examples())


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_every_step_has_one_shape_and_all_is_read(accumulate: int) -> None:
    feed = Feed(examples(), 48, accumulate, epochs=3)
    portions = list(feed.portions(0, 3 * feed.per_epoch))
    assert len({tuple(a.shape for a in p.arrays.values()) for p in portions}) == 1
    targets = sum(float(p.arrays["target_weights"].sum()) for p in portions)
    assert targets == 3 * sum(sum(e.target) for e in examples())
    if accumulate > 1:
        assert portions[0].arrays["tokens"].shape[0] == accumulate


def test_a_run_that_goes_on_reads_the_same() -> None:
    whole = list(Feed(examples(), 48, 2, epochs=3).portions(0, 8))
    later = list(Feed(examples(), 48, 2, epochs=3).portions(5, 8))
    assert all(same(a.arrays, b.arrays) for a, b in zip(whole[5:], later, strict=True))


def test_as_keras_pads() -> None:
    plain = [Example(ids(n, n), [False] + [True] * (n - 1)) for n in (5, 9, 4)]
    feed = Feed(plain, 1, padding=Padding(6, 2))
    first, second = feed.portions(0, 2)
    assert (feed.per_epoch, first.rows, second.rows) == (2, 2, 1)
    assert (float(first.arrays["divisor"]), float(second.arrays["divisor"])) == (12.0, 6.0)
    # Of a text Keras learns all, whatever is marked.
    masked = [Example(e.ids, [False] * (len(e.ids) - 1) + [True]) for e in plain]
    assert same(Feed(masked, 1, padding=Padding(6, 2)).portion(0).arrays, first.arrays)
    marked = Feed(masked, 1, padding=Padding(9, 2, prompts=False)).portion(0)
    assert marked.arrays["target_weights"].sum() == 2


def test_prefetching_keeps_the_order() -> None:
    with prefetched(range(50)) as items:
        assert list(items) == list(range(50))


def inputs() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "input"]


def test_it_works_ahead_but_not_far() -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    with prefetched(source(), ahead=3) as items:
        assert next(items) == 0
        deadline = time.monotonic() + 10
        while len(made) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        # One read, three waiting, one in hand.
        assert made == list(range(5))
    assert not inputs()


def test_an_error_is_raised_where_its_item_would_come() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    with prefetched(source()) as items:
        assert next(items) == 1
        with pytest.raises(ValueError, match="broken"):
            next(items)
    assert not inputs()


def test_leaving_early_ends_the_thread() -> None:
    with pytest.raises(KeyError), prefetched(range(10**9)) as items:
        next(items)
        raise KeyError
    assert not inputs()
