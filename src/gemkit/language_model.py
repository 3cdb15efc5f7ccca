"""The user's object: a model with its tokenizer, in words instead of ids."""

import contextlib
import functools
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemkit.adapt.lora import Adapter, Lora, attach, merge
from gemkit.checkpoint.load import params_hash
from gemkit.checkpoint.save import save_checkpoint
from gemkit.errors import GenerationError, TokenizerError, UsageError
from gemkit.generate.choice import Choice as Choice
from gemkit.generate.choice import Normalize, make_choices
from gemkit.generate.decode import bucket
from gemkit.generate.decoding import Decoding
from gemkit.generate.sampling import Sampling
from gemkit.generate.score import Progress, score_continuations
from gemkit.model import transformer
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params
from gemkit.summary import summary_table
from gemkit.text.chat import Message, chat_ids
from gemkit.text.fim import Order, fim_ids, fim_stop_ids
from gemkit.text.middle import Gap, Lines
from gemkit.text.stops import StopText
from gemkit.text.templates import explain_prompt
from gemkit.text.tokenizer import Tokenizer
from gemkit.text.transcript import without_prompts

NEW_TOKENS, MIDDLE_TOKENS = 256, 128
"""Most new tokens, and most of a middle, where neither a limit nor the context says otherwise."""
BATCH_STEPS, STREAM_STEPS = 32, 4
"""Tokens made on the device between two looks at the text."""


class LanguageModel:
    """A Gemma with its vocabulary.

    Attributes:
      name: what it was loaded as.
      config: its shape.
      params: the weights tree; adapted matrices are `LoraWeight` leaves.
      tokenizer: raises when used if the checkpoint had none; `optional_tokenizer` is None then.
      lora, adapter: settings and matrices of the adapter, None without one.
    """

    def __init__(
        self, name: str, config: GemmaConfig, base: Params, tokenizer: Tokenizer | None,
        lora: Lora | None = None, adapter: Adapter | None = None,
    ) -> None:  # fmt: skip
        self.name, self.config, self.base = name, config, base
        self.lora, self.adapter = lora, adapter
        self.optional_tokenizer = tokenizer

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
        return summary_table(self.name, self.config, itemsize, lora)

    def logits(self, ids: Any) -> jax.Array:
        """ids [T] or [B, T], 0 = padding on the right → float32 logits [..., T, V]."""
        tokens = np.atleast_2d(np.asarray(ids, np.int32))
        found = _all_logits(self.params, self.config, tokens)
        return found[0] if np.ndim(ids) == 1 else found

    def generate(
        self, prompts: str | Sequence[str], max_new_tokens: int | None = None,
        max_length: int | None = None, temperature: float = 0.0, top_k: int | None = None,
        top_p: float | None = None, min_p: float | None = None, repetition_penalty: float = 1.0,
        seed: int = 0, stop: str | Sequence[str] = (), echo: bool = False,
        parse_special: bool = False,
    ) -> Any:  # fmt: skip
        """Continues a prompt, or several as one batch: str → str, list → list.

        Ends at the end of text, the end of a turn, a `stop` string (left out) or the limit.

        Args:
          prompts: text; `<bos>` is put before it.
          max_new_tokens: most tokens of the answer.
          max_length: most tokens of prompt and answer together.
          temperature: 0 for greedy.
          top_k, top_p, min_p, repetition_penalty, seed: see `generate.sampling.Sampling`.
          stop: strings that end the answer.
          echo: put the prompt before the answer.
          parse_special: let `<|fim_prefix|>` and the like in the prompt be those tokens.

        Raises:
          GenerationError: a prompt that is empty or fills the context.
          UsageError: a setting out of range.
        """
        sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty, seed)
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        ids = [self._prompt_ids(text, parse_special) for text in texts]
        answers = self._answers(
            ids, self._limits(ids, max_new_tokens, max_length), sampling, _stops(stop)
        )  # fmt: skip
        if echo:
            answers = [text + answer for text, answer in zip(texts, answers, strict=True)]
        return answers[0] if isinstance(prompts, str) else answers

    def stream(
        self, prompt: str, max_new_tokens: int | None = None, max_length: int | None = None,
        temperature: float = 0.0, top_k: int | None = None, top_p: float | None = None,
        min_p: float | None = None, repetition_penalty: float = 1.0, seed: int = 0,
        stop: str | Sequence[str] = (), echo: bool = False, parse_special: bool = False,
    ) -> Iterator[str]:  # fmt: skip
        """`generate` in pieces as they come; joined they equal its answer."""
        sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty, seed)
        ids = self._prompt_ids(prompt, parse_special)
        limits = self._limits([ids], max_new_tokens, max_length)
        if echo:
            yield prompt
        yield from self._pieces(ids, limits[0], sampling, _stops(stop))

    def chat(self, messages: Sequence[Message], **settings: Any) -> str:
        """The assistant's next answer to `[{"role": "user", "content": …}, …]`."""
        return "".join(self.stream_chat(messages, **settings))

    def stream_chat(
        self, messages: Sequence[Message], max_new_tokens: int | None = None,
        max_length: int | None = None, stop: str | Sequence[str] = (), **sampling: Any,
    ) -> Iterator[str]:  # fmt: skip
        """`chat` in pieces as they come."""
        ids, _ = chat_ids(self.tokenizer, messages)
        limits = self._limits([ids], max_new_tokens, max_length)
        yield from self._pieces(ids, limits[0], Sampling(**sampling), _stops(stop))

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
        path: str | None = None, order: Order = "psm", lines: Lines = "auto",
        max_new_tokens: int | None = None, stop: str | Sequence[str] = (), **sampling: Any,
    ) -> str:  # fmt: skip
        """The text between `prefix` and `suffix`, the middle only.

        Args:
          prefix, suffix: code around the gap; far text is left out where the context is short.
          context: path → text of other files, the most relevant last.
          path: of the file itself.
          order: what the model reads first, "psm" the prefix or "spm" the suffix.
          lines: how much is wanted: "one" line, "many" or "auto"; see `text.middle.Gap`.
          max_new_tokens: most tokens of the middle; 128 or less in a short context by default.
          stop: strings that end it.
          sampling: see `generate.sampling.Sampling`.

        Raises:
          TokenizerError: a vocabulary without fill-in-the-middle tokens.
          GenerationError: nothing to complete, or a limit that leaves no room for the text.
        """
        gap = Gap(prefix, suffix, lines)
        if not (prefix or suffix or context):
            raise GenerationError("the text around the gap is empty", "some code before or after")
        length = self.config.max_positions
        wanted = min(MIDDLE_TOKENS, length // 4) if max_new_tokens is None else max_new_tokens
        if wanted >= length:
            raise UsageError(f"max_new_tokens is {wanted}", f"fewer than {length}, the context")
        ids = fim_ids(self.tokenizer, prefix, suffix, context, path, order, length - wanted)
        limit = self._limits([ids], wanted, None)[0]
        ends = fim_stop_ids(self.tokenizer)
        pieces = self._pieces(ids, limit, Sampling(**sampling), _stops(stop), ends)
        text = ""
        with contextlib.closing(pieces):
            for piece in pieces:
                text += piece
                if gap.is_over(text):
                    break
        return gap.cut(text)

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
        score = functools.partial(
            score_continuations, self.params, self.config, continuations=continuations
        )  # fmt: skip
        scores = score(prompts=prompts, progress=progress)
        base = None if content_free is None else score(prompts=[content_free])[0]
        return make_choices(choices, scores, [*map(len, continuations)], normalize, base)

    def log_likelihood(self, prompt: str, continuation: str) -> float:
        """Natural log-probability of `continuation` after `<bos>` and `prompt`."""
        ids = self._prompt_ids(prompt, False), self.tokenizer.encode(continuation)
        return float(score_continuations(self.params, self.config, [ids[0]], [ids[1]])[0, 0])

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

    def _limits(
        self, prompts: Sequence[Sequence[int]], new: int | None, length: int | None
    ) -> list[int]:
        if new is not None and length is not None:
            raise UsageError("both max_new_tokens and max_length are given", "one of them")
        for name, value in (("max_new_tokens", new), ("max_length", length)):
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}", "at least 1")
        context = self.config.max_positions
        limits = []
        for prompt in prompts:
            room = context - len(prompt)
            if room < 1:
                raise GenerationError(
                    f"the prompt is {len(prompt)} tokens long",
                    f"fewer than {context}, the model's context", "shorten it",
                )  # fmt: skip
            wanted = NEW_TOKENS if new is None else new
            if length is not None:
                wanted = length - len(prompt)
                if wanted < 1:
                    raise GenerationError(
                        f"the prompt is {len(prompt)} tokens long and max_length is {length}",
                        "a longer max_length", "it counts the prompt too",
                    )  # fmt: skip
            limits.append(min(wanted, room))
        return limits

    def _stop_ids(self, more: Sequence[int] = ()) -> tuple[int, ...]:
        end = self.tokenizer.end_of_turn_id
        ends = {self.tokenizer.eos_id, *more} | ({end} if end is not None else set())
        return tuple(sorted(ends))

    def _answers(
        self, prompts: Sequence[Sequence[int]], limits: Sequence[int], sampling: Sampling,
        stops: Sequence[str], more_ends: Sequence[int] = (),
    ) -> list[str]:  # fmt: skip
        if not prompts:
            return []
        ends = self._stop_ids(more_ends)
        decoding = Decoding(self.params, self.config, prompts, limits, ends, sampling)
        streams = [StopText(self.tokenizer.stream(), stops) for _ in prompts]
        answers = [""] * len(prompts)
        while decoding.running():
            for row, tokens in enumerate(decoding.advance(BATCH_STEPS)):
                answers[row] += "".join(streams[row].push(token) for token in tokens)
                if streams[row].stopped:
                    decoding.finish(row)
        return [answer + stream.flush() for answer, stream in zip(answers, streams, strict=True)]

    def _pieces(
        self, prompt: Sequence[int], limit: int, sampling: Sampling, stops: Sequence[str],
        more_ends: Sequence[int] = (),
    ) -> Generator[str, None, None]:  # fmt: skip
        ends = self._stop_ids(more_ends)
        decoding = Decoding(self.params, self.config, [prompt], [limit], ends, sampling)
        stream = StopText(self.tokenizer.stream(), stops)
        while decoding.running() and not stream.stopped:
            piece = "".join(stream.push(token) for token in decoding.advance(STREAM_STEPS)[0])
            if piece:
                yield piece
        rest = stream.flush()
        if rest:
            yield rest


def _stops(stop: str | Sequence[str]) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if not all(stops):
        raise UsageError("a stop string is empty", "some text in each")
    return stops


def _all_logits(params: Params, config: GemmaConfig, tokens: np.ndarray) -> jax.Array:
    rows, length = tokens.shape
    padded = np.zeros((rows, bucket(length)), np.int32)
    padded[:, :length] = tokens
    return _jitted_logits(params, config, padded)[:, :length]


@functools.partial(jax.jit, static_argnames="config")
def _jitted_logits(params: Params, config: GemmaConfig, tokens: jax.Array) -> jax.Array:
    segments = jnp.ones_like(tokens)
    positions = transformer.positions_of(segments)
    # Padding on the right needs no mask: nothing before it can see it.
    states = transformer.hidden(params, config, tokens, positions, segments)
    return transformer.logits(params, config, states)
