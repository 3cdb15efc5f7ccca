"""The user's object: a model with its tokenizer, in words instead of ids."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemkit.adapt.lora import Adapter, Lora, attach, merge
from gemkit.adapt.quantize import method_of
from gemkit.answering.answerer import Answerer
from gemkit.answering.options import Options as Options
from gemkit.answering.options import make_options
from gemkit.answering.reply import Reply as Reply
from gemkit.checkpoint.load import params_hash
from gemkit.checkpoint.save import save_checkpoint
from gemkit.errors import GenerationError, TokenizerError, UsageError
from gemkit.generate.choice import Choice as Choice
from gemkit.generate.choice import Normalize, make_choices
from gemkit.generate.decode import all_logits
from gemkit.generate.prefix import BUDGET
from gemkit.generate.score import Progress
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params
from gemkit.summary import summary_table
from gemkit.text.chat import Message, chat_ids
from gemkit.text.fim import Order, fim_ids, fim_stop_ids
from gemkit.text.middle import Gap, Lines
from gemkit.text.templates import explain_prompt
from gemkit.text.tokenizer import Tokenizer
from gemkit.text.transcript import without_prompts

MIDDLE_TOKENS = 128
"""Most tokens of a middle, where neither a limit nor the context says otherwise."""


class LanguageModel:
    """A Gemma with its vocabulary.

    Attributes:
      name: what it was loaded as.
      config: its shape.
      params: the weights tree; adapted matrices are `LoraWeight` leaves.
      tokenizer: raises when used if the checkpoint had none; `optional_tokenizer` is None then.
      lora, adapter: settings and matrices of the adapter, None without one.
      cache_dtype: of keys and values; None for that of the weights, "int8" for a quarter of
        float32's memory.
      prefix_bytes: memory for prompt starts that later calls may share; 0 keeps none.
    """

    def __init__(
        self, name: str, config: GemmaConfig, base: Params, tokenizer: Tokenizer | None,
        lora: Lora | None = None, adapter: Adapter | None = None,
    ) -> None:  # fmt: skip
        self.name, self.config, self.base = name, config, base
        self.lora, self.adapter = lora, adapter
        self.optional_tokenizer = tokenizer
        self.cache_dtype: str | None = None
        self.prefix_bytes = BUDGET
        self._kept: Answerer | None = None

    @functools.cached_property
    def params(self) -> Params:
        """The weights tree, adapter attached."""
        if self.lora is None or self.adapter is None:
            return self.base
        return attach(self.base, self.adapter, self.lora)

    @functools.cached_property
    def base_hash(self) -> str:
        """sha256 of the weights without the adapter."""
        return params_hash(self.base)

    @property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary.

        Raises:
          TokenizerError: the model came without one.
        """
        if self.optional_tokenizer is None:
            raise TokenizerError(
                f"{self.name} has no tokenizer", "a tokenizer.model beside its weights",
                "copy the one of the original checkpoint there",
            )  # fmt: skip
        return self.optional_tokenizer

    def summary(self, lora_rank: int | None = None) -> str:
        """Layers, shapes and parameter counts as a table; with a rank, what LoRA would train."""
        lora = Lora(rank=lora_rank) if lora_rank is not None else self.lora
        itemsize = jnp.dtype(self.base["embed"].dtype).itemsize
        return summary_table(self.name, self.config, itemsize, lora, method_of(self.base))

    def logits(self, ids: Any) -> jax.Array:
        """ids [T] or [B, T], 0 = padding on the right → float32 logits [..., T, V]."""
        tokens = np.atleast_2d(np.asarray(ids, np.int32))
        found = all_logits(self.params, self.config, tokens)
        return found[0] if np.ndim(ids) == 1 else found

    def generate(
        self, prompts: str | Sequence[str], *, echo: bool = False, parse_special: bool = False,
        **options: Any,
    ) -> Any:  # fmt: skip
        """Continues a prompt, or several as one batch: str → str, list → list.

        Args:
          prompts: text; `<bos>` is put before it.
          echo: put the prompt before the answer.
          parse_special: let `<|fim_prefix|>` and the like in the prompt be those tokens.
          options: see `Options`: max_new_tokens, temperature, stop, …

        Returns:
          The answer in place of each prompt; with `n` a list of so many.

        Raises:
          GenerationError: a prompt that is empty or fills the context.
          UsageError: an option that is unknown, out of range or contradicts another.
        """
        asked = make_options(options)
        found = self._replies(prompts, parse_special, asked)
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        answers = [
            [text * echo + reply.text for reply in row]
            for text, row in zip(texts, found, strict=True)
        ]
        given = [row if "n" in options else row[0] for row in answers]
        return given[0] if isinstance(prompts, str) else given

    def answers(
        self, prompts: str | Sequence[str], *, parse_special: bool = False, **options: Any
    ) -> list[list[Reply]]:
        """`generate` with tokens and log-probabilities: for each prompt its `n` replies."""
        return self._replies(prompts, parse_special, make_options(options))

    def answer_ids(
        self, prompts: Sequence[Sequence[int]], ends: Sequence[int] = (),
        progress: Progress | None = None, overs: Sequence[Callable[[str], bool]] = (),
        **options: Any,
    ) -> list[list[Reply]]:  # fmt: skip
        """`answers` to prompts given as ids.

        Args:
          ends: tokens that end an answer beside the ends of text and of a turn.
          progress: called with (answers done, answers in all).
          overs: for each prompt, whether an answer needs no more text; or none.
        """
        asked = make_options(options)
        return self._answerer.replies(prompts, asked, ends, overs, progress)

    def stream(
        self, prompt: str, *, echo: bool = False, parse_special: bool = False, **options: Any
    ) -> Iterator[str]:
        """`generate` in pieces as they come; joined they equal its answer.

        Closing the iterator gives up the rest.
        """
        asked = make_options(options)
        ids = self._prompt_ids(prompt, parse_special)
        pieces = self._answerer.stream(ids, asked)
        if echo:
            yield prompt
        yield from pieces

    def chat(self, messages: Sequence[Message], **options: Any) -> Any:
        """The assistant's next answer to `[{"role": "user", "content": …}, …]`.

        With `n` a list of so many. See `Options` for what else can be asked.
        """
        ids, _ = chat_ids(self.tokenizer, messages)
        texts = [reply.text for reply in self._answerer.replies([ids], make_options(options))[0]]
        return texts if "n" in options else texts[0]

    def stream_chat(self, messages: Sequence[Message], **options: Any) -> Iterator[str]:
        """`chat` in pieces as they come."""
        ids, _ = chat_ids(self.tokenizer, messages)
        yield from self._answerer.stream(ids, make_options(options))

    def explain(self, code: str, language: str = "English", **settings: Any) -> str:
        """What code does, as Markdown: a title, step by step, the output to expect.

        Args:
          code: or a Python session's lines, with `>>>` before the first.
          language: of the answer.
          settings: as for `chat`.
        """
        return "".join(self.stream_explain(code, language, **settings))

    def stream_explain(
        self, code: str, language: str = "English", **settings: Any
    ) -> Iterator[str]:
        """`explain` in pieces as they come."""
        code = without_prompts(code)
        if not code.strip():
            raise GenerationError("the code is empty", "some lines of code")
        messages = [{"role": "user", "content": explain_prompt(code, language)}]
        length, context = len(chat_ids(self.tokenizer, messages)[0]), self.config.max_positions
        if length > context * 3 // 4:
            raise GenerationError(
                f"the code and the question are {length} tokens long",
                f"at most {context * 3 // 4}, so that a quarter of the context is left to answer",
                "give some of its lines, as FILE:START-END",
            )
        yield from self.stream_chat(messages, **settings)

    def complete(
        self, prefix: str, suffix: str = "", context: Mapping[str, str] | None = None,
        path: str | None = None, order: Order = "psm", lines: Lines = "auto", **options: Any,
    ) -> Any:  # fmt: skip
        """The text between `prefix` and `suffix`, the middle only.

        Args:
          prefix, suffix: code around the gap; far text is left out where the context is short.
          context: path → text of other files, the most relevant last.
          path: of the file itself.
          order: what the model reads first, "psm" the prefix or "spm" the suffix.
          lines: how much is wanted: "one" line, "many" or "auto"; see `text.middle.Gap`.
          options: see `Options`. max_new_tokens is 128, or less in a short context; `draft` is
            on unless switched off: code repeats what stands around it.

        Returns:
          The middle; with `n` a list of so many.

        Raises:
          TokenizerError: a vocabulary without fill-in-the-middle tokens.
          GenerationError: nothing to complete, or a limit that leaves no room for the text.
        """
        gap, length = Gap(prefix, suffix, lines), self.config.max_positions
        if not (prefix or suffix or context):
            raise GenerationError("the text around the gap is empty", "some code before or after")
        draft = options.get("beams") is None
        asked = make_options({"draft": draft, **options})
        if asked.max_length is not None:
            raise UsageError("max_length is given", "max_new_tokens, for a middle")
        wanted = asked.max_new_tokens or min(MIDDLE_TOKENS, length // 4)
        if wanted >= length:
            raise UsageError(f"max_new_tokens is {wanted}", f"fewer than {length}, the context")
        asked = dataclasses.replace(asked, max_new_tokens=wanted)
        ids = fim_ids(self.tokenizer, prefix, suffix, context, path, order, length - wanted)
        ends = fim_stop_ids(self.tokenizer)
        found = self._answerer.replies([ids], asked, ends, [gap.is_over])[0]
        middles = [gap.cut(reply.text) for reply in found]
        return middles if "n" in options else middles[0]

    def choose(
        self, prompts: str | Sequence[str], choices: Sequence[str], normalize: Normalize = "sum",
        calibrate: str | None = None, progress: Progress | None = None,
    ) -> Any:  # fmt: skip
        """Scores each choice as the continuation of each prompt.

        Args:
          prompts: text; `<bos>` is put before it.
          choices: two or more texts.
          normalize: "sum", or "mean" for log-likelihoods per token.
          calibrate: a prompt that speaks for no choice, such as one with "N/A" for its content;
            probabilities are divided by those under it. See `generate.choice`.
          progress: called with (prompts done, prompts in all).

        Returns:
          A `Choice` for a str, a list of them for a list.

        Raises:
          UsageError: fewer than two choices, two alike, an empty one, or another `normalize`.
        """
        given = [] if isinstance(choices, str) else list(choices)
        ids = [self.tokenizer.encode(choice) for choice in given]
        if len(ids) < 2 or len({*map(tuple, ids)}) < len(ids) or not all(ids):
            raise UsageError(f"choices are {choices!r}", "two or more, different, not empty")
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        rows = [self._prompt_ids(text, False) for text in texts]
        content_free = None if calibrate is None else self._prompt_ids(calibrate, False)
        found = self.choose_ids(
            rows, self.closed(ids), given, progress, normalize, content_free
        )  # fmt: skip
        return found[0] if isinstance(prompts, str) else found

    def choose_ids(
        self, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]],
        choices: Sequence[str], progress: Progress | None = None, normalize: Normalize = "sum",
        content_free: Sequence[int] | None = None,
    ) -> list[Choice]:  # fmt: skip
        """`choose` with prompts and continuations as ids."""
        score = self._answerer.score
        scores = score(prompts, continuations, progress)
        base = None if content_free is None else score([content_free], continuations)[0]
        return make_choices(choices, scores, [*map(len, continuations)], normalize, base)

    def log_likelihood(self, prompt: str, continuation: str) -> float:
        """Natural log-probability of `continuation` after `<bos>` and `prompt`."""
        ids = self._prompt_ids(prompt, False), self.tokenizer.encode(continuation)
        return float(self._answerer.score([ids[0]], [ids[1]])[0, 0])

    def closed(self, ids: Sequence[Sequence[int]]) -> list[list[int]]:
        """Continuations none of which begins another: ended by `<eos>` where one does.

        "good" is also the start of "good enough"; only with its end does it exclude the other.
        """
        plain = [list(x) for x in ids]
        if any(a != b and b[: len(a)] == a for a in plain for b in plain):
            return [[*x, self.tokenizer.eos_id] for x in plain]
        return plain

    def save(self, path: str | Path, format: str = "hf") -> None:
        """Writes the model, an adapter merged into its weights, as a folder."""
        weights = merge(self.params)
        save_checkpoint(Path(path), self.config, weights, self.optional_tokenizer, format)

    def _prompt_ids(self, text: str, parse_special: bool) -> list[int]:
        if not isinstance(text, str):
            raise UsageError(f"a prompt is a {type(text).__name__}", "text")
        if not text:
            raise GenerationError("the prompt is empty", "some text")
        return self.tokenizer.encode(text, bos=True, parse_special=parse_special)

    def _replies(
        self, prompts: str | Sequence[str], parse_special: bool, options: Options
    ) -> list[list[Reply]]:
        texts = [prompts] if isinstance(prompts, str) else prompts
        ids = [self._prompt_ids(text, parse_special) for text in texts]
        return self._answerer.replies(ids, options)

    @property
    def _answerer(self) -> Answerer:
        """What answers; it stays for the next call, but never for other weights."""
        settings = self.optional_tokenizer, self.cache_dtype, self.prefix_bytes
        kept = self._kept
        if kept is None or kept.params is not self.params or kept.settings != settings:
            kept = self._kept = Answerer(self.params, self.config, *settings)
        return kept
