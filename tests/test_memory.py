"""Whether a run fits, said before it starts; how much memory is free."""

import dataclasses
import warnings
from pathlib import Path

import pytest
import small

from gemkit.adapt.lora import Lora
from gemkit.errors import MemoryWarning, UsageError
from gemkit.loading import load
from gemkit.model.variants import GEMMA_2B
from gemkit.progress import free_memory
from gemkit.tasks import make_task
from gemkit.train.packing import Example
from gemkit.train.plan import Tuning, base_bytes, plan_tuning
from gemkit.tuning.memory import check_memory, tuning_of
from gemkit.tuning.recipe import make_recipe

GIVEN = Tuning(config=GEMMA_2B, itemsize=2, lora=Lora(rank=4))
BESIDE = plan_tuning(GIVEN).total - base_bytes(GEMMA_2B, 2, None)


def test_what_fits_is_not_mentioned() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_memory(GIVEN, 2 * BESIDE).total == plan_tuning(GIVEN).total
        assert check_memory(GIVEN, None).total > 0


def test_what_is_near_the_limit_is_warned_of() -> None:
    with pytest.warns(MemoryWarning, match=r"GiB are free; less: .*remat full"):
        check_memory(GIVEN, BESIDE)


def test_what_cannot_fit_is_refused_with_what_to_change() -> None:
    with pytest.raises(UsageError, match="try .*remat full .*fewer batch tokens") as caught:
        check_memory(GIVEN, BESIDE // 2)
    assert "\n" not in str(caught.value)


def test_the_weights_already_loaded_do_not_count_again() -> None:
    full = dataclasses.replace(GIVEN, lora=None)
    with pytest.raises(UsageError, match="LoRA instead of all weights"):
        check_memory(full, 8 * 2**30)


def test_a_run_is_described_by_its_rows(small_model: Path) -> None:
    recipe = make_recipe(make_task("classify"), batch_tokens=256, remat="layer", ema=0.9)
    examples = [Example([1] * 20, [False] * 19 + [True])] * 30
    given = tuning_of(load(small_model), recipe, examples)
    assert (given.config, given.itemsize, given.quantize) == (small.CONFIG, 4, None)
    assert (given.remat, given.ema, given.optimizer) == ("layer", True, "adamw")
    assert given.batch_tokens <= 256 and given.batch_tokens % (given.row_length or 1) == 0


def test_free_memory_is_what_this_machine_has() -> None:
    free = free_memory()
    assert free is None or 0 < free < 2**50
