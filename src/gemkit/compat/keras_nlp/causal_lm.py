"""KerasNLP's `GemmaCausalLM` on gemkit's engine and training loop."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gemkit.adapt.lora import plain
from gemkit.checkpoint.keras.config import family
from gemkit.compat.answers import answers
from gemkit.compat.keras.callbacks import History
from gemkit.compat.keras_nlp import fitting, samplers
from gemkit.compat.keras_nlp.backbone import GemmaBackbone, load_preset
from gemkit.compat.keras_nlp.optimizer import check_loss, metric_names, optimizer_named
from gemkit.compat.keras_nlp.preprocessor import GemmaCausalLMPreprocessor, stored_settings
from gemkit.compat.keras_nlp.rows import to_rows
from gemkit.compat.keras_nlp.summary import model_table, preprocessor_table
from gemkit.compat.keras_nlp.tokenizer import GemmaTokenizer, as_text
from gemkit.compat.missing import Shim
from gemkit.errors import UsageError
from gemkit.generate.beam import beam_search
from gemkit.language_model import LanguageModel
from gemkit.model.variants import VARIANTS

END_OF_TURN = "<end_of_turn>"


class GemmaCausalLM(Shim):
    """A backbone with a preprocessor.

    Attributes:
      backbone: the weights.
      preprocessor: text to ids and back; None where arrays of ids are given.
      stop_training: set by a callback, ends `fit`.
    """

    own_way = "gemkit's own lm.language_model: generate, chat, complete, choose, save"
    ways = {
        "predict": "generate(prompts), or score(token_ids) for logits",
        "save": "save_to_preset(folder)",
        "save_weights": "save_to_preset(folder), or backbone.save_lora_weights(file)",
        "load_weights": "from_preset(folder), or backbone.load_lora_weights(file)",
        "quantize": 'gemkit.load(name, quantize="int8")',
        "export": "save_to_preset(folder), then gemkit convert",
    }
    presets: ClassVar[Mapping[str, str]] = {v.name: v.kaggle for v in VARIANTS.values()}

    def __init__(
        self, backbone: GemmaBackbone, preprocessor: GemmaCausalLMPreprocessor | None = None,
        name: str | None = None,
    ) -> None:  # fmt: skip
        self.backbone, self.preprocessor = backbone, preprocessor
        self.name = name or f"{family(backbone.model_config)}_causal_lm"
        self.stop_training = False
        self.compile()

    @classmethod
    def from_preset(
        cls, preset: str | Path, load_weights: bool = True, dtype: str | None = None,
        preprocessor: Any = "auto",
    ) -> "GemmaCausalLM":  # fmt: skip
        """Loads a preset's name, a folder in any format or a hub handle.

        Args:
          load_weights: False draws random ones.
          dtype: of the weights; None for the one `keras.config.set_floatx` set, float32.
          preprocessor: another one, or None to pass arrays of ids.

        Raises:
          ModelNotFoundError: it is not on disk; says how to fetch it.
          CheckpointError: damaged, or not a Gemma.
        """
        backbone, vocabulary, folder = load_preset(preset, load_weights, dtype)
        kind = family(backbone.model_config)
        if isinstance(preprocessor, str):
            preprocessor = None
            if vocabulary is not None:
                named = f"{kind}_causal_lm_preprocessor"
                preprocessor = GemmaCausalLMPreprocessor(
                    GemmaTokenizer(vocabulary), **stored_settings(folder), name=named
                )
        made = Gemma3CausalLM if kind == "gemma3" else GemmaCausalLM
        return made(backbone, preprocessor)

    @property
    def language_model(self) -> LanguageModel:
        """gemkit's own model of the same weights, for all that KerasNLP has no name for."""
        b = self.backbone
        vocabulary = self.preprocessor.tokenizer.vocabulary if self.preprocessor else None
        adapter: tuple[Any, Any] = (None, None)
        if b.lora is not None and b.adapter is not None:
            adapter = plain(b.lora, b.adapter)
        return LanguageModel(self.name, b.model_config, b.base, vocabulary, *adapter)

    def summary(
        self, line_length: int | None = None, print_fn: Callable[[str], Any] | None = None,
        **_: Any,
    ) -> None:  # fmt: skip
        """Prints Keras' tables: the tokenizer, the layers, the totals."""
        show = print_fn or print
        config, b = self.backbone.model_config, self.backbone
        if self.preprocessor is not None:
            tokenizer, kind = self.preprocessor.tokenizer, family(config).capitalize()
            named = f"{family(config)}_tokenizer ({kind}Tokenizer)"
            size = tokenizer.vocabulary_size()
            show(preprocessor_table(self.preprocessor.name, named, size, line_length))
        table = config.vocab_size * config.hidden_size
        rows = [
            ("padding_mask (InputLayer)", "(None, None)", "0", "-"),
            ("token_ids (InputLayer)", "(None, None)", "0", "-"),
            (f"{b.name} ({type(b).__name__})", f"(None, None, {config.hidden_size})",
             f"{b.count_params():,}", "padding_mask[0][0], token_ids[0][0]"),
            ("token_embedding (ReversibleEmbedding)", f"(None, None, {config.vocab_size})",
             f"{table:,}", f"{b.name}[0][0]"),
        ]  # fmt: skip
        counts = self._memory.counted(b.counts, self.optimizer)
        show(model_table(self.name, rows, counts, line_length))

    def count_params(self) -> int:
        """All parameters, the adapter's as Keras counts them."""
        return self.backbone.count_params()

    def compile(
        self, optimizer: Any = "auto", loss: Any = "auto", *, weighted_metrics: Any = "auto",
        sampler: Any = "greedy", metrics: Any = None, **_: Any,
    ) -> None:  # fmt: skip
        """Sets how `fit` trains and `generate` chooses tokens.

        Args:
          optimizer: Adam, AdamW or SGD of `keras.optimizers` or of its stand-in, or a name.
          loss: SparseCategoricalCrossentropy(from_logits=True).
          weighted_metrics: SparseCategoricalAccuracy objects, or names.
          sampler: a name, or a sampler.
          metrics: None: metrics that count padding have no counterpart.

        Raises:
          UsageError: something gemkit has no counterpart for; names its own way.
        """
        if metrics:
            raise UsageError(
                "metrics are given, which count padding too", "weighted_metrics",
                "pass the same list there",
            )  # fmt: skip
        check_loss(loss)
        self.optimizer = optimizer_named(optimizer)
        self._metrics = metric_names(weighted_metrics)
        self.sampler = samplers.get(sampler)
        self._memory = fitting.Memory()
        seed = self.sampler.get_config().get("seed")
        self._seeds = np.random.SeedSequence(random.getrandbits(32) if seed is None else seed)

    def generate(
        self, inputs: Any, max_length: int | None = None, stop_token_ids: Any = "auto",
        strip_prompt: bool = False, **more: Any,
    ) -> Any:  # fmt: skip
        """Continues a prompt, or several as one batch: str → str, list → list.

        Args:
          inputs: prompts; without a preprocessor {"token_ids", "padding_mask"} [B, T], and the
            same comes back.
          max_length: most tokens of prompt and answer together, the preprocessor's
            `sequence_length` by default. A longer prompt is cut.
          stop_token_ids: tokens that end an answer; "auto" for `<eos>`, for Gemma 3 the end of a
            turn too; None for none.
          strip_prompt: leave the prompt out.

        Raises:
          GenerationError: a prompt longer than the model's context.
          UsageError: other arguments, or prompts that are no texts.
        """
        if more:
            raise UsageError(
                f"generate got {', '.join(more)}", "inputs, max_length and stop_token_ids",
                "choose tokens by compile(sampler=...), or use lm.language_model.generate",
            )  # fmt: skip
        if self.preprocessor is None:
            return self._generate_ids(inputs, stop_token_ids)
        given = inputs["prompts"] if isinstance(inputs, Mapping) else inputs
        single = isinstance(given, str | bytes)
        if not single and not isinstance(given, Iterable):
            raise UsageError(f"the prompt is a {type(given).__name__}", "a string, or a list")
        texts = [as_text(text) for text in ([given] if single else given)]
        length = max_length or self.preprocessor.sequence_length
        if length < 1:
            raise UsageError(f"max_length is {max_length}", "at least 1, of prompt and answer")
        prompts = self.preprocessor.prompt_ids(texts, length)
        tokenizer = self.preprocessor.tokenizer
        ends = self._ends(stop_token_ids)
        # Ends that leave no trace in the text are the engine's own business.
        quiet = [token for token in ends if token in tokenizer.special_token_ids]
        shown = [token for token in ends if token not in quiet]
        made = self._continued(prompts, [length - len(p) for p in prompts], quiet, shown)
        rows = made if strip_prompt else [p + m for p, m in zip(prompts, made, strict=True)]
        kept = [[t for t in row if t not in tokenizer.special_token_ids] for row in rows]
        found = [tokenizer.detokenize(row) for row in kept]
        return found[0] if single else found

    def fit(
        self, x: Any = None, y: Any = None, batch_size: int | None = None, epochs: int = 1,
        verbose: Any = "auto", callbacks: Any = None, validation_split: float = 0.0,
        validation_data: Any = None, shuffle: bool = True, class_weight: Any = None,
        sample_weight: Any = None, initial_epoch: int = 0, steps_per_epoch: int | None = None,
        validation_batch_size: int | None = None, **more: Any,
    ) -> History:  # fmt: skip
        """Trains the adapter, or all weights if LoRA is not enabled.

        Args:
          x: texts, {"prompts": …, "responses": …}, or without a preprocessor {"token_ids",
            "padding_mask"} [N, T]; taken in this order, as KerasHub takes them.
          y, sample_weight: labels and weights [N, T], without a preprocessor only.
          batch_size: rows of a step, 32 by default.
          epochs: passes over the data.
          verbose: 0 for silence, 2 for one line per epoch.
          callbacks: told how it goes; Keras' own work too.
          validation_split: share of the rows, the last ones, to validate on.
          validation_data: the same as x, or a tuple of x, y and weights.

        Returns:
          History: measures by name, one value an epoch.

        Raises:
          UsageError: data or an argument gemkit has no counterpart for.
          TrainingError: the loss is not a number.
        """
        asked = {"class_weight": class_weight, "initial_epoch": initial_epoch,
                 "steps_per_epoch": steps_per_epoch, **more}  # fmt: skip
        for name, value in asked.items():
            if value:
                raise UsageError(
                    f"fit got {name}={value!r}", "data, epochs, batch_size, callbacks, validation",
                    "gemkit.tune has its own settings",
                )  # fmt: skip
        rows = to_rows(self.preprocessor, x, y, sample_weight, batch_size)
        rows, valid = rows.split(validation_split)
        if validation_data is not None:
            held = validation_data if isinstance(validation_data, tuple) else (validation_data,)
            arrays = dict(zip(("x", "y", "sample_weight"), held, strict=False))
            size = validation_batch_size or batch_size
            valid = to_rows(self.preprocessor, **arrays, batch_size=size)
        return fitting.run(self, rows, valid, epochs, verbose, callbacks)

    def evaluate(
        self, x: Any = None, y: Any = None, batch_size: int | None = None, verbose: Any = "auto",
        sample_weight: Any = None, return_dict: bool = False, **_: Any,
    ) -> Any:  # fmt: skip
        """Loss and metrics of data as `fit` takes it, as a list or a dict."""
        rows = to_rows(self.preprocessor, x, y, sample_weight, batch_size)
        found = fitting.measures(self, rows)
        return found if return_dict else list(found.values())

    @property
    def trainable(self) -> bool:
        """Whether `fit` changes anything: True."""
        return self.backbone.trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self.backbone.trainable = value

    @property
    def measure_names(self) -> tuple[str, ...]:
        """What the accuracy is reported as."""
        return self._metrics

    @property
    def memory(self) -> fitting.Memory:
        """What the optimizer remembers between two calls of `fit`."""
        return self._memory

    def score(
        self, token_ids: Any, padding_mask: Any = None, scoring_mode: str = "logits",
        layer_intercept_fn: Any = None, target_ids: Any = None,
    ) -> np.ndarray:  # fmt: skip
        """Logits [B, T, V] of ids [B, T], or with "loss" minus log p [B, T] of `target_ids`.

        Raises:
          UsageError: another mode, a loss without targets, or a function between layers.
        """
        if scoring_mode not in ("logits", "loss"):
            raise UsageError(f"scoring_mode is {scoring_mode!r}", "'logits' or 'loss'")
        if layer_intercept_fn is not None:
            raise UsageError(
                "layer_intercept_fn is given", "None", "gemkit.model.transformer has the blocks"
            )
        found = np.asarray(self.language_model.logits(np.asarray(token_ids)))
        if scoring_mode == "logits":
            return found
        if target_ids is None:
            raise UsageError("target_ids are missing", "ids whose loss is wanted")
        targets = np.asarray(target_ids)[..., None]
        chosen = np.take_along_axis(found, targets, axis=-1)[..., 0]
        highest = found.max(-1)
        total = np.log(np.exp(found - highest[..., None]).sum(-1)) + highest
        return np.asarray(total - chosen, np.float32)

    def __call__(self, inputs: Any) -> np.ndarray:
        """Logits [B, T, V] of {"token_ids", "padding_mask"}, padding on the right."""
        return self.score(inputs["token_ids"])

    def save_to_preset(self, preset_dir: str | Path) -> None:
        """Writes weights, adapter merged, and vocabulary as a preset; see the backbone's."""
        vocabulary = self.preprocessor.tokenizer.vocabulary if self.preprocessor else None
        self.backbone.save_to_preset(preset_dir, vocabulary)

    def get_weights(self) -> list[np.ndarray]:
        """What is trained, as arrays."""
        return self.backbone.get_weights()

    def set_weights(self, weights: Sequence[Any]) -> None:
        """What `get_weights` gave, back."""
        self.backbone.set_weights(weights)

    def _ends(self, stop_token_ids: Any) -> list[int]:
        if stop_token_ids is None:
            return []
        if not isinstance(stop_token_ids, str):
            return _ids(stop_token_ids)
        if self.preprocessor is None:
            raise UsageError(
                "there is no preprocessor, and stop_token_ids is 'auto'", "None, or token ids"
            )
        tokenizer = self.preprocessor.tokenizer
        ends = [tokenizer.end_token_id]
        if family(self.backbone.model_config) == "gemma3" and END_OF_TURN in tokenizer.vocabulary:
            ends.append(tokenizer.token_to_id(END_OF_TURN))
        return ends

    def _continued(
        self, prompts: Sequence[list[int]], limits: Sequence[int], quiet: Sequence[int],
        shown: Sequence[int],
    ) -> list[list[int]]:  # fmt: skip
        params, config = self.backbone.params, self.backbone.model_config
        width = samplers.beams_of(self.sampler)
        if width is not None:
            ends = [*quiet, *shown]
            found = [
                list(beam_search(params, config, p, width, n, ends, 0.0)[0].tokens) if n > 0 else []
                for p, n in zip(prompts, limits, strict=True)
            ]
            return found
        (drawn,) = self._seeds.spawn(1)
        chosen = [
            samplers.sampling_of(self.sampler, int(seed))
            for seed in drawn.generate_state(len(prompts))
        ]
        return answers(params, config, prompts, limits, chosen, quiet, shown)

    def _generate_ids(self, inputs: Any, stop_token_ids: Any) -> dict[str, np.ndarray]:
        tokens = np.array(inputs["token_ids"], np.int32)
        mask = np.asarray(inputs["padding_mask"], bool)
        prompts = [row[kept].tolist() for row, kept in zip(tokens, mask, strict=True)]
        ends = self._ends(stop_token_ids)
        limits = [tokens.shape[1] - len(prompt) for prompt in prompts]
        made = self._continued(prompts, limits, (), ends)
        whole = np.zeros_like(mask)
        for number, (prompt, new) in enumerate(zip(prompts, made, strict=True)):
            row = prompt + new
            tokens[number, : len(row)], whole[number, : len(row)] = row, True
        return {"token_ids": tokens, "padding_mask": whole}


class Gemma3CausalLM(GemmaCausalLM):
    """The same for Gemma 3."""


def _ids(given: Any) -> list[int]:
    tokens = list(given) if isinstance(given, Iterable) else [given]
    if not isinstance(given, Iterable) or any(isinstance(token, str) for token in tokens):
        raise UsageError(
            f"stop_token_ids is {given!r}", '"auto", None, or a list of token ids',
            "preprocessor.tokenizer.token_to_id gives the id of a token",
        )  # fmt: skip
    return [int(token) for token in tokens]


CausalLM = GemmaCausalLM
