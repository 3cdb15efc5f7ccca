"""Packing: nothing is lost or mixed up, rows are well filled, shapes stay the same."""

import numpy as np
import pytest

from gemkit.errors import DataError, UsageError
from gemkit.train.packing import (
    Batch,
    EpochBatches,
    Example,
    bucket,
    choose_shape,
    epoch_batches,
    pack_rows,
    packing_stats,
    pad_batches,
)


def made(count: int, longest: int, seed: int = 0) -> list[Example]:
    draw = np.random.default_rng(seed)
    examples = []
    for length in draw.integers(2, longest + 1, count).tolist():
        target = [False, *(draw.random(length - 1) < 0.3).tolist()]
        examples.append(Example(draw.integers(1, 1000, length).tolist(), target))
    return examples


def unpacked(batch: Batch) -> dict[int, tuple[list[int], list[int], list[tuple[int, int]]]]:
    """Example number → its tokens, positions, and (place in it, id) of its targets."""
    width = batch.tokens.shape[1]
    found = {}
    for b, row in enumerate(batch.examples):
        for s, example in enumerate(row, start=1):
            places = np.flatnonzero(batch.segments[b] == s)
            targets = [
                (int(index) + 1 - b * width - int(places[0]), int(token))
                for index, token, weight in zip(
                    batch.target_index, batch.target_ids, batch.target_weights, strict=True
                )
                if weight and b * width + places[0] <= index <= b * width + places[-1]
            ]
            tokens, positions = batch.tokens[b, places], batch.positions[b, places]
            found[example] = (tokens.tolist(), positions.tolist(), targets)
    return found


def everything(batches: EpochBatches) -> dict[int, tuple[list[int], list[int], list]]:
    return {k: v for batch in batches for k, v in unpacked(batch).items()}


def expected(examples: list[Example]) -> dict[int, tuple[list[int], list[int], list]]:
    return {
        i: (
            list(e.ids),
            list(range(len(e.ids))),
            [(t, e.ids[t]) for t in range(len(e.ids)) if e.target[t]],
        )
        for i, e in enumerate(examples)
    }


@pytest.mark.parametrize("pack", [True, False])
def test_every_example_comes_back_whole(pack: bool) -> None:
    examples = made(57, 40)
    batches = epoch_batches(examples, row_length=48, rows=4, seed=3, epoch=1, pack=pack)
    assert everything(batches) == expected(examples)
    assert everything(pad_batches(examples, rows=5, seed=0, epoch=0)) == expected(examples)


def test_a_batch_by_hand() -> None:
    examples = [Example([7, 8, 9], [False, True, True]), Example([5, 6], [False, True])]
    batch = epoch_batches(examples, row_length=6, rows=2, seed=0, epoch=0)[0]
    assert batch.tokens.tolist() == [[7, 8, 9, 5, 6, 0], [0] * 6]
    assert batch.positions.tolist() == [[0, 1, 2, 0, 1, 0], [0] * 6]
    assert batch.segments.tolist() == [[1, 1, 1, 2, 2, 0], [0] * 6]
    assert batch.target_index.tolist() == [0, 1, 3, 0, 0, 0, 0, 0]
    assert batch.target_ids.tolist() == [8, 9, 6, 0, 0, 0, 0, 0]
    assert batch.target_weights.tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert batch.examples == ((0, 1), ())
    arrays = batch.arrays()
    assert {name: str(array.dtype) for name, array in arrays.items()} == {
        "tokens": "int32", "positions": "int32", "segments": "int32", "target_index": "int32",
        "target_ids": "int32", "target_weights": "float32",
    }  # fmt: skip


def test_all_batches_have_one_shape() -> None:
    batches = epoch_batches(made(100, 30), row_length=32, rows=3, seed=0, epoch=0)
    shapes = {tuple(array.shape for array in batch.arrays().values()) for batch in batches}
    assert shapes == {((3, 32),) * 3 + ((batches.target_slots,),) * 3}
    counts = [int((batch.target_weights > 0).sum()) for batch in batches]
    assert bucket(max(counts)) == batches.target_slots
    wider = epoch_batches(made(100, 30), 32, 3, seed=0, epoch=0, target_slots=512)
    assert wider[0].target_ids.shape == (512,)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    examples = made(60, 30)

    def order(seed: int, epoch: int) -> list[tuple[tuple[int, ...], ...]]:
        return [batch.examples for batch in epoch_batches(examples, 32, 4, seed, epoch)]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1) != order(2, 1)
    assert len({len(order(seed, epoch)) for seed in range(3) for epoch in range(4)}) == 1


def test_batches_are_a_sequence() -> None:
    batches = epoch_batches(made(60, 30), row_length=32, rows=4, seed=0, epoch=0)
    listed = list(batches)
    assert len(batches) == len(listed) > 3
    assert batches[-1].examples == listed[-1].examples
    assert [b.examples for b in batches[2:]] == [b.examples for b in listed[2:]]
    with pytest.raises(IndexError):
        batches[len(batches)]


def test_best_fit_fills_rows() -> None:
    lengths = np.random.default_rng(0).integers(10, 60, 2000).tolist()
    rows = pack_rows(lengths, 256)
    assert sorted(i for row in rows for i in row) == list(range(2000))
    assert max(sum(lengths[i] for i in row) for row in rows) <= 256
    assert len(rows) <= 1.01 * sum(lengths) / 256 + 1


def test_best_fit_takes_the_tightest_row() -> None:
    assert pack_rows([6, 5, 4, 3, 2], 10) == [[0, 2], [1, 3, 4]]
    assert pack_rows([7, 8, 2], 10) == [[1, 2], [0]]


def test_long_examples_are_never_cropped_unsaid() -> None:
    examples = [*made(5, 8), Example(list(range(1, 14)), [False] * 13), *made(2, 8)]
    with pytest.raises(DataError, match=r"1 of 8 examples .* example 5, has 13 tokens"):
        epoch_batches(examples, row_length=12, rows=2, seed=0, epoch=0)
    batches = epoch_batches(examples, row_length=12, rows=2, seed=0, epoch=0, too_long="skip")
    assert batches.too_long == (5,)
    assert sorted(everything(batches)) == [0, 1, 2, 3, 4, 6, 7]
    for nothing in (examples[5:6], []):
        with pytest.raises(DataError, match="no example to train on"):
            epoch_batches(nothing, row_length=12, rows=2, seed=0, epoch=0, too_long="skip")


@pytest.mark.parametrize(
    ("ids", "target"), [([], []), ([1, 2], [False]), ([1, 2], [True, False])]
)
def test_examples_are_checked(ids: list[int], target: list[bool]) -> None:
    with pytest.raises(ValueError, match="expected equally many"):
        Example(ids, target)


def test_examples_without_targets_make_a_batch() -> None:
    batch = epoch_batches([Example([1, 2], [False, False])], 4, 1, seed=0, epoch=0)[0]
    assert batch.target_weights.sum() == 0


def test_the_shape_keeps_to_the_budget_and_the_data() -> None:
    lengths = np.random.default_rng(0).integers(15, 70, 300).tolist()
    for budget in (256, 1024, 4096):
        rows, row_length = choose_shape(lengths, budget)
        assert rows * row_length <= budget
        assert max(lengths) <= row_length <= 512
        packed = len(pack_rows(lengths, row_length))
        slots = -(-packed // rows) * rows * row_length
        assert slots <= 1.12 * sum(lengths), "more than a ninth is padding"


def test_little_data_is_not_padded_to_the_budget() -> None:
    assert choose_shape([40] * 6, batch_tokens=100_000) == (2, 128)
    rows, row_length = choose_shape([20], batch_tokens=100_000)
    assert rows * row_length == 64


def test_the_last_batch_is_not_left_nearly_empty() -> None:
    """9 rows in batches of up to 8: 5 and 4, not 8 and 1."""
    rows, row_length = choose_shape([64] * 9, batch_tokens=8 * 64)
    assert (rows, row_length) == (5, 64)


def test_an_example_longer_than_the_budget_has_its_way() -> None:
    assert choose_shape([5000, 40, 30], batch_tokens=1024) == (1, 6144)


def test_shapes_need_a_budget_and_examples() -> None:
    with pytest.raises(UsageError, match="--batch-tokens is 0"):
        choose_shape([3], 0)
    with pytest.raises(DataError, match="no example"):
        choose_shape([], 100)


def test_stats_count() -> None:
    examples = made(50, 30)
    batches = epoch_batches(examples, row_length=64, rows=2, seed=0, epoch=0)
    stats = packing_stats(batches)
    assert stats.slots == len(batches) * 128
    assert stats.text == sum(len(e.ids) for e in examples)
    assert stats.targets == sum(sum(e.target) for e in examples)
    assert stats.padding == pytest.approx(1 - stats.text / stats.slots)
    assert packing_stats([]).padding == 0
    padded = packing_stats(pad_batches(examples, rows=2, seed=0, epoch=0))
    assert padded.text == stats.text and padded.padding > stats.padding
