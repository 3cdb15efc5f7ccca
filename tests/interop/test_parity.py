"""Whole runs against transformers and PEFT: logits, greedy answers, adapters, three AdamW steps.

Random models of every generation, read from the folder transformers writes. `test_checkpoints`
compares formats on one shape; here the shapes differ (shared and own key/value heads, widths
where heads do not add up to D, the query scale of the 27B models) and rows outgrow the window.
"""

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import peft
import pytest
import torch
import transformers

from gemkit.adapt.lora import Adapter, Lora, attach
from gemkit.checkpoint.load import Loaded, load_checkpoint
from gemkit.generate.engine import Engine
from gemkit.generate.request import Request
from gemkit.generate.score import score_continuations
from gemkit.model import transformer
from gemkit.model.weights import Params, flatten
from gemkit.train.optimizer import OptimizerSettings, make_optimizer
from gemkit.train.packing import Batch, Example, epoch_batches
from gemkit.train.step import init_state, make_train_step

pytestmark = pytest.mark.filterwarnings("default")

VOCABULARY = 199
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 48, "intermediate_size": 56, "head_dim": 14,
    "tie_word_embeddings": True, "max_position_embeddings": 256,
}  # fmt: skip
GEMMA2: dict[str, Any] = {
    "num_hidden_layers": 4, "sliding_window": 6, "attn_logit_softcapping": 1.5,
    "final_logit_softcapping": 3.0,
}  # fmt: skip
GEMMA3: dict[str, Any] = {"num_hidden_layers": 6, "sliding_window": 6}
LINEAR8 = {"rope_type": "linear", "factor": 8.0}


def heads(queries: int, shared: int) -> dict[str, int]:
    return {"num_attention_heads": queries, "num_key_value_heads": shared}


MODELS: dict[str, transformers.PretrainedConfig] = {
    "gemma one shared head": transformers.GemmaConfig(**SIZES, **heads(6, 1), num_hidden_layers=3),
    "gemma no shared heads": transformers.GemmaConfig(**SIZES, **heads(3, 3), num_hidden_layers=2),
    "gemma2": transformers.Gemma2Config(**SIZES, **heads(6, 2), **GEMMA2, query_pre_attn_scalar=14),
    "gemma2 27b": transformers.Gemma2Config(
        **SIZES, **heads(4, 2), **GEMMA2, query_pre_attn_scalar=12
    ),
    "gemma3 1b": transformers.Gemma3TextConfig(
        **SIZES, **heads(6, 1), **GEMMA3, query_pre_attn_scalar=14
    ),
    "gemma3 27b": transformers.Gemma3TextConfig(
        **SIZES, **heads(4, 2), **GEMMA3, query_pre_attn_scalar=12, rope_scaling=LINEAR8
    ),
}
Both = tuple[Any, Loaded]


def random_model(name: str) -> Any:
    """In float32, weights large enough for caps to bend, norm scales not zero.

    Blocks speak louder than the embedding, else answers repeat the prompt's last token.
    """
    model = transformers.AutoModelForCausalLM.from_config(
        MODELS[name], attn_implementation="eager", dtype=torch.float32
    )
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
            if path.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.mul_(3)
            elif ".post_" in path:
                parameter.add_(3)
    return model.eval()


@pytest.fixture(scope="module", params=MODELS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """A model of transformers and what we read from the folder it saves."""
    model, folder = random_model(request.param), tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    return model, load_checkpoint(folder)


def ids(length: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(4, VOCABULARY, length).tolist()


SEQUENCES = [ids(33, 0), ids(20, 1), ids(7, 2), ids(1, 3)]


def ragged() -> tuple[np.ndarray, np.ndarray]:
    """Tokens and segments of four rows, the longest 33 tokens, padded on the right."""
    tokens, segments = np.zeros((2, len(SEQUENCES), 33), np.int32)
    for row, sequence in enumerate(SEQUENCES):
        tokens[row, : len(sequence)] = sequence
        segments[row, : len(sequence)] = 1
    return tokens, segments


def our_logits(params: Params, config: Any) -> np.ndarray:
    tokens, segments = (jnp.asarray(array) for array in ragged())
    positions = transformer.positions_of(segments)
    hidden = jax.jit(transformer.hidden, static_argnames="config")
    states = hidden(params, config, tokens, positions, segments)
    return np.asarray(transformer.logits(params, config, states))[ragged()[1] > 0]


def their_logits(model: Any) -> np.ndarray:
    tokens, segments = ragged()
    with torch.no_grad():
        out = model(torch.tensor(tokens).long(), attention_mask=torch.tensor(segments))
    return out.logits.numpy()[segments > 0]


def assert_close(ours: Any, theirs: Any, tolerance: float = 1e-4) -> None:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


def test_logits(both: Both) -> None:
    model, loaded = both
    ours, theirs = our_logits(loaded.params, loaded.config), their_logits(model)
    assert np.abs(theirs).max() > 1
    assert_close(ours, theirs)
    assert np.array_equal(ours.argmax(-1), theirs.argmax(-1))


def test_greedy_answers(both: Both) -> None:
    """24 tokens behind prompts of every length, ours in one batch, theirs one by one."""
    model, loaded = both
    model.generation_config.eos_token_id = None
    expected = []
    for sequence in SEQUENCES:
        out = model.generate(
            torch.tensor([sequence]), max_new_tokens=24, do_sample=False, pad_token_id=0
        )
        expected.append(out[0, len(sequence) :].tolist())
    engine = Engine(loaded.params, loaded.config, slots=16)
    answers = [engine.add(Request(tuple(sequence), 24)) for sequence in SEQUENCES]
    while engine.running():
        engine.step(5)
    assert [answer.tokens for answer in answers] == expected
    assert len({token for answer in answers for token in answer.tokens}) > 10


def test_scores_of_continuations(both: Both) -> None:
    model, loaded = both
    prompts = [ids(15, 8) + ids(length, length) for length in (12, 11, 10)]
    choices = [[5], [6, 7], [6, 8, 9]]
    ours = score_continuations(loaded.params, loaded.config, prompts, choices)
    for row, prompt in enumerate(prompts):
        for column, choice in enumerate(choices):
            with torch.no_grad():
                out = model(torch.tensor([prompt + choice])).logits[0].double()
            log_p = out.log_softmax(-1)[len(prompt) - 1 : -1]
            theirs = float(log_p[range(len(choice)), choice].sum())
            assert ours[row, column] == pytest.approx(theirs, rel=1e-4)


# Ours → theirs.
NAMES = {
    "attn.q": "self_attn.q_proj", "attn.k": "self_attn.k_proj", "attn.v": "self_attn.v_proj",
    "attn.o": "self_attn.o_proj", "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
}  # fmt: skip


def with_adapter(model: Any, lora: Lora) -> Any:
    """A copy of the model under PEFT, with random A and B."""
    config = peft.LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha or lora.rank, bias="none", task_type="CAUSAL_LM",
        target_modules=[f"{target}_proj" for target in lora.targets],
    )  # fmt: skip
    adapted = peft.get_peft_model(copy.deepcopy(model), config)
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return adapted


def read_adapter(adapted: Any) -> Adapter:
    """The adapter's matrices as ours: path → a [R, in], b [R, out]."""
    found: Adapter = {}
    for name, parameter in adapted.named_parameters():
        if not parameter.requires_grad:
            continue
        stem, part = name.removesuffix(".default.weight").rsplit(".lora_", 1)
        layer = stem.rsplit("layers.", 1)[1].split(".", 1)[0]
        ours = next(short for short, theirs in NAMES.items() if stem.endswith(theirs))
        matrix = jnp.asarray(parameter.detach().numpy())
        pair = found.setdefault(f"layers.{layer}.{ours}", {})
        pair[part.lower()] = matrix if part == "A" else matrix.T
    return found


LORA = Lora(rank=3, alpha=7.0)
QUERY_VALUE = Lora(rank=2, targets=("q", "v"))


@pytest.mark.parametrize("lora", [LORA, QUERY_VALUE], ids=["all", "qv"])
def test_adapter_logits(both: Both, lora: Lora) -> None:
    model, loaded = both
    before = their_logits(model)
    adapted = with_adapter(model, lora)
    adapter = read_adapter(adapted)
    assert len(adapter) == len(lora.targets) * loaded.config.num_layers
    theirs = their_logits(adapted)
    assert np.abs(theirs - before).max() > 0.1
    assert_close(our_logits(attach(loaded.params, adapter, lora), loaded.config), theirs)


def examples() -> list[Example]:
    made = []
    for number, length in enumerate((24, 13, 9, 17)):
        target = [False] * (length // 2) + [True] * (length - length // 2)
        made.append(Example(ids(length, 20 + number), target))
    return made


RULE = OptimizerSettings(
    learning_rate=0.005, schedule="linear", warmup=0, weight_decay=0.1, clip_norm=0.5
)
STEPS = 3


def their_run(adapted: Any) -> list[float]:
    """Three AdamW steps on the four examples, right-padded; mean loss over the answers."""
    tokens = np.zeros((4, 24), np.int64)
    mask, labels = np.zeros((4, 24), np.int64), np.full((4, 24), -100)
    for row, example in enumerate(examples()):
        length = len(example.ids)
        tokens[row, :length], mask[row, :length] = example.ids, 1
        labels[row, :length] = np.where(example.target, example.ids, -100)
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.005, weight_decay=0.1)
    losses = []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 0.005 * (1 - step / STEPS)
        out = adapted(torch.tensor(tokens), attention_mask=torch.tensor(mask))
        loss = torch.nn.functional.cross_entropy(
            out.logits[:, :-1].reshape(-1, VOCABULARY), torch.tensor(labels[:, 1:]).reshape(-1)
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 0.5)
        optimizer.step()
        losses.append(loss.item())
    return losses


def our_run(loaded: Loaded, adapter: Adapter, batch: Batch) -> tuple[list[float], Adapter]:
    rule = make_optimizer(RULE, STEPS)
    state = init_state(jax.tree.map(jnp.copy, adapter), rule, seed=0)
    step = make_train_step(loaded.config, LORA, rule)
    losses = []
    for _ in range(STEPS):
        state, result = step(state, loaded.params, batch.arrays())
        losses.append(float(result.sums.loss / result.sums.weight))
    return losses, state.trained


def test_three_steps(both: Both) -> None:
    """Losses and adapters agree, though our examples share rows."""
    model, loaded = both
    adapted = with_adapter(model, LORA)
    adapter = read_adapter(adapted)
    batches = epoch_batches(examples(), row_length=40, rows=2, seed=0, epoch=0)
    assert len(batches) == 1
    assert [len(row) for row in batches[0].examples] == [2, 2]
    losses, trained = our_run(loaded, adapter, batches[0])
    expected = their_run(adapted)
    assert losses == pytest.approx(expected, rel=1e-4)
    assert losses[-1] < losses[0]
    before, after = (dict(flatten(tree)) for tree in (adapter, read_adapter(adapted)))
    pairs = [(np.asarray(leaf), after[path], before[path]) for path, leaf in flatten(trained)]
    assert max(np.abs(ours - start).max() for ours, _, start in pairs) > 0.005
    off = np.concatenate([np.abs(ours - theirs).ravel() for ours, theirs, _ in pairs])
    # Adam divides a gradient by its own size, so where that is noise the step is noise too.
    assert (off > 1e-4).mean() < 1e-3
    assert np.median(off) < 1e-6
