"""How well a model foresees the right answers: loss, perplexity, bits per byte."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gemkit.language_model import LanguageModel
from gemkit.metrics.scores import Figures
from gemkit.text.tokenizer import Tokenizer
from gemkit.train.loop import make_loss_measure
from gemkit.train.packing import Example

BATCH_TOKENS = 2048


@dataclass(frozen=True)
class Likelihood:
    """The target tokens of some examples under a model.

    Attributes:
      loss: mean of -ln p over the tokens.
      tokens: how many.
      bytes: of their text in UTF-8.
    """

    loss: float
    tokens: int
    bytes: int

    def figures(self, names: Sequence[str]) -> Figures:
        """Those of the metrics that are among `names`."""
        nats = self.loss * self.tokens
        known = {
            "loss": self.loss,
            "perplexity": math.exp(min(self.loss, 700)),
            "bits_per_byte": nats / math.log(2) / max(self.bytes, 1),
        }
        return Figures({name: known[name] for name in names if name in known})


def likelihood_of(loss: float, examples: Sequence[Example], tokenizer: Tokenizer) -> Likelihood:
    """With the counts of the examples that the loss is the mean of."""
    targets = [
        token
        for example in examples
        for token, learnt in zip(example.ids, example.target, strict=True)
        if learnt
    ]
    count = sum(len(tokenizer.token_bytes(token)) for token in targets)
    return Likelihood(loss, len(targets), count)


def measure_likelihood(lm: LanguageModel, examples: Sequence[Example]) -> Likelihood:
    """Of the examples' targets, each given all that stands before it."""
    frozen, trained = (lm.base, lm.adapter) if lm.lora is not None else ({}, lm.base)
    measure = make_loss_measure(frozen, lm.config, lm.lora, examples, BATCH_TOKENS)
    return likelihood_of(measure(trained)["valid_loss"], examples, lm.tokenizer)
