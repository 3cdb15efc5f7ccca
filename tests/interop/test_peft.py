"""PEFT's adapters load here with their logits, ours load there; DoRA trains as it does there.

Models and probes are those of `test_parity`.
"""

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import peft
import pytest
import torch
import transformers
from interop import test_parity
from interop.test_parity import assert_close, our_logits, random_model, their_logits
from safetensors.numpy import load_file

from gemkit.adapt.lora import Adapter, Lora, attach, init_adapter, merge
from gemkit.checkpoint.adapters import read_adapter, write_adapter
from gemkit.checkpoint.load import Loaded, load_checkpoint
from gemkit.errors import CheckpointError, GemkitError
from gemkit.model.weights import flatten
from gemkit.train.optimizer import make_optimizer
from gemkit.train.packing import epoch_batches
from gemkit.train.step import init_state, make_train_step

pytestmark = pytest.mark.filterwarnings("default")

Both = tuple[Any, Loaded]
NAMES = ("gemma one shared head", "gemma2", "gemma3 1b")

# Settings of PEFT.
THEIRS: dict[str, dict[str, Any]] = {
    "usual": {},
    "lora": {"r": 3, "lora_alpha": 7, "target_modules": ["q_proj", "down_proj"]},
    "rslora": {"r": 5, "lora_alpha": 4, "use_rslora": True, "target_modules": "all-linear"},
    "dora": {"r": 3, "lora_alpha": 5, "use_dora": True, "target_modules": "all-linear"},
    "patterns": {
        "r": 4, "lora_alpha": 6, "use_dora": True, "use_rslora": True,
        "target_modules": r".*\.(self_attn\.[qo]_proj|mlp\.\w+_proj)",
        "rank_pattern": {"q_proj": 2, r"^model\.layers\.1\.mlp\..*": 7, "up_proj": 3},
        "alpha_pattern": {r"layers\.[01]\..*": 9.5, "q_proj": 1},
    },
    "some layers": {
        "r": 2, "target_modules": ["q_proj", "up_proj", "k_proj"], "layers_to_transform": [1],
        "exclude_modules": ["self_attn.k_proj"],
    },
}  # fmt: skip

OURS: dict[str, Lora] = {
    "lora": Lora(3, 7.0, ("q", "down"), dropout=0.1),
    "one layer": Lora(2, targets=("layers.1.*",)),
    "rslora": Lora(5, 4.0, rslora=True),
    "dora": Lora(3, 5.0, dora=True),
    "patterns": Lora(
        4, 6.0, dora=True, rslora=True, rank_pattern={"q": 2, "layers.1.mlp.*": 7},
        alpha_pattern={"layers.0.*": 9.5, "up": 0.75},
    ),
    "no alpha": Lora(4, rank_pattern={"layers.0.attn.*": 2, "down": 3}),
}  # fmt: skip


@pytest.fixture(scope="module", params=NAMES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """A model of transformers and what we read from the folder it saves."""
    model, folder = random_model(request.param), tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    return model, load_checkpoint(folder)


def moved(tree: Any) -> Any:
    """Away from the start: matrices random, magnitudes a little off."""
    draw = np.random.default_rng(6)

    def move(leaf: Any) -> np.ndarray:
        start = np.asarray(leaf) if leaf.ndim == 1 else 0.0
        return np.asarray(start + draw.normal(size=leaf.shape) * 0.1, np.float32)

    return jax.tree.map(move, tree)


def adapted(model: Any, name: str = "default", **settings: Any) -> Any:
    """A copy of the model under PEFT, moved."""
    config = peft.LoraConfig(bias="none", task_type="CAUSAL_LM", **settings)
    made = peft.get_peft_model(copy.deepcopy(model), config, adapter_name=name)
    trained = {n: p for n, p in made.named_parameters() if p.requires_grad}
    values = moved({name: p.detach().numpy() for name, p in trained.items()})
    with torch.no_grad():
        for path, parameter in trained.items():
            parameter.copy_(torch.tensor(values[path]))
    return made.eval()


def ours_of(loaded: Loaded, lora: Lora, adapter: Adapter) -> np.ndarray:
    return our_logits(attach(loaded.params, adapter, lora), loaded.config)


@pytest.mark.parametrize("kind", THEIRS)
def test_peft_to_gemkit(both: Both, tmp_path: Path, kind: str) -> None:
    model, loaded = both
    theirs = adapted(model, **THEIRS[kind])
    theirs.save_pretrained(tmp_path)
    lora, adapter = read_adapter(tmp_path, loaded.config)
    assert len(adapter) == sum("lora_A" in name for name, _ in theirs.named_parameters())
    expected = their_logits(theirs)
    assert np.abs(expected - their_logits(model)).max() > 0.05
    assert_close(ours_of(loaded, lora, adapter), expected)
    folded = merge(attach(loaded.params, adapter, lora))
    assert_close(our_logits(folded, loaded.config), expected)


@pytest.mark.parametrize("kind", OURS)
def test_gemkit_to_peft(both: Both, tmp_path: Path, kind: str) -> None:
    model, loaded = both
    lora = OURS[kind]
    adapter = jax.tree.map(jnp.asarray, moved(init_adapter(loaded.config, lora, 0, loaded.params)))
    notes = write_adapter(
        tmp_path / "adapter", "peft", loaded.config, lora, adapter, base="base", base_hash="f" * 64
    )  # fmt: skip
    assert notes == (f"{len(adapter)} update matrices equal to the last bit",)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(missing|unexpected) (adapter )?keys.*")
        theirs = peft.PeftModel.from_pretrained(copy.deepcopy(model), tmp_path / "adapter").eval()
    made = sum("lora_A" in name for name, _ in theirs.named_parameters())
    assert made == len(adapter)
    assert_close(ours_of(loaded, lora, adapter), their_logits(theirs))


def test_an_adapter_with_a_name(both: Both, tmp_path: Path) -> None:
    model, loaded = both
    theirs = adapted(model, "mine", **THEIRS["dora"])
    theirs.save_pretrained(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_dir()] == ["mine"]
    assert_close(ours_of(loaded, *read_adapter(tmp_path, loaded.config)), their_logits(theirs))


def test_an_adapter_around_an_adapter(both: Both, tmp_path: Path) -> None:
    model, loaded = both
    config = peft.LoraConfig(r=2, target_modules=["v_proj"], task_type="CAUSAL_LM")
    inner = peft.get_peft_model(copy.deepcopy(model), config)
    outer = peft.PeftModel(inner, config)
    values = moved({n: p.detach().numpy() for n, p in outer.named_parameters() if "lora" in n})
    outer.load_state_dict({n: torch.tensor(v) for n, v in values.items()}, strict=False)
    outer.save_pretrained(tmp_path)
    names = load_file(tmp_path / "adapter_model.safetensors")
    assert all(name.startswith("base_model.model.base_model.model.model.") for name in names)
    lora, adapter = read_adapter(tmp_path, loaded.config)
    assert_close(ours_of(loaded, lora, adapter), their_logits(outer.eval()))


def test_a_layout_of_other_layers_means_nothing_for_gemma(both: Both, tmp_path: Path) -> None:
    """PEFT takes fan_in_fan_out back for linear layers, and so do we."""
    model, loaded = both
    theirs = adapted(model, **THEIRS["dora"])
    theirs.save_pretrained(tmp_path)
    described = json.loads((tmp_path / "adapter_config.json").read_text())
    described["fan_in_fan_out"] = True
    (tmp_path / "adapter_config.json").write_text(json.dumps(described))
    again = peft.PeftModel.from_pretrained(copy.deepcopy(model), tmp_path).eval()
    assert_close(their_logits(again), their_logits(theirs), 1e-6)
    assert_close(ours_of(loaded, *read_adapter(tmp_path, loaded.config)), their_logits(theirs))


@pytest.mark.parametrize("settings", [
    {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    {"target_modules": ["q_proj", "embed_tokens"]},
    {"target_modules": ["q_proj"], "lora_bias": True},
    {"target_modules": ["q_proj"], "trainable_token_indices": [5]},
    {"target_modules": ["q_proj"], "init_lora_weights": "pissa"},
], ids=lambda settings: list(settings)[-1])  # fmt: skip
def test_what_is_more_than_lora_is_refused(
    both: Both, tmp_path: Path, settings: dict[str, Any]
) -> None:
    model, loaded = both
    adapted(model, **settings).save_pretrained(tmp_path)
    with pytest.raises(GemkitError, match="merge it with PEFT") as caught:
        read_adapter(tmp_path, loaded.config)
    assert "\n" not in str(caught.value)


def test_an_adapter_of_another_size_is_refused(both: Both, tmp_path: Path) -> None:
    model, _ = both
    adapted(model).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="expected|no place for"):
        read_adapter(tmp_path, load_of(tmp_path, "gemma no shared heads").config)


def load_of(folder: Path, name: str) -> Loaded:
    random_model(name).save_pretrained(folder / "model")
    return load_checkpoint(folder / "model")


def test_gemma3_with_vision(tmp_path: Path) -> None:
    """The text model's part loads; an adapter of the vision tower too is refused."""
    text = transformers.Gemma3TextConfig(
        **test_parity.SIZES, **test_parity.heads(6, 1), **test_parity.GEMMA3
    )
    vision = {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    config = transformers.Gemma3Config(
        text_config=text.to_dict(), vision_config=vision, mm_tokens_per_image=4
    )
    model = transformers.Gemma3ForConditionalGeneration._from_config(
        config, attn_implementation="eager"
    )
    model.save_pretrained(tmp_path / "model")
    loaded = load_checkpoint(tmp_path / "model")
    theirs = adapted(model, r=2, target_modules=r".*language_model.*\.(q_proj|up_proj)")
    theirs.save_pretrained(tmp_path / "adapter")
    lora, adapter = read_adapter(tmp_path / "adapter", loaded.config)
    assert_close(ours_of(loaded, lora, adapter), their_logits(theirs))
    adapted(model, r=2, target_modules=["q_proj"]).save_pretrained(tmp_path / "seeing")
    with pytest.raises(CheckpointError, match="it adapts the vision tower"):
        read_adapter(tmp_path / "seeing", loaded.config)


def trained_by_us(loaded: Loaded, lora: Lora, adapter: Adapter) -> tuple[list[float], Adapter]:
    rule = make_optimizer(test_parity.RULE, test_parity.STEPS)
    state = init_state(jax.tree.map(jnp.copy, adapter), rule, seed=0)
    step = make_train_step(loaded.config, lora, rule)
    batch = epoch_batches(test_parity.examples(), row_length=40, rows=2, seed=0, epoch=0)[0]
    losses = []
    for _ in range(test_parity.STEPS):
        state, result = step(state, loaded.params, batch.arrays())
        losses.append(float(result.sums.loss / result.sums.weight))
    return losses, state.trained


def test_three_steps_of_dora(both: Both, tmp_path: Path) -> None:
    """Losses and adapters agree with PEFT's, magnitudes too."""
    model, loaded = both
    theirs = adapted(model, **THEIRS["dora"])
    theirs.save_pretrained(tmp_path / "before")
    lora, before = read_adapter(tmp_path / "before", loaded.config)
    losses, trained = trained_by_us(loaded, lora, before)
    expected = test_parity.their_run(theirs)
    assert losses == pytest.approx(expected, rel=2e-4)
    assert losses[-1] < losses[0]
    theirs.save_pretrained(tmp_path / "after")
    after = dict(flatten(read_adapter(tmp_path / "after", loaded.config)[1]))
    start = dict(flatten(before))
    for part in ("a", "b", "m"):
        leaves = {path: leaf for path, leaf in flatten(trained) if path.endswith(f".{part}")}
        assert max(np.abs(leaf - start[path]).max() for path, leaf in leaves.items()) > 0.005
        off = np.concatenate([np.abs(leaf - after[path]).ravel() for path, leaf in leaves.items()])
        # Adam divides a gradient by its own size, so where that is noise the step is noise too.
        assert (off > 1e-4).mean() < 5e-3
        assert np.median(off) < 2e-6
