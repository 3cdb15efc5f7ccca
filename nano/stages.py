"""The stages of training nano: how long, how fast."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """Some steps with an optimiser of their own, from the weights of the stage before.

    The rate rises for `warmup` steps, stays at `rate` and falls in the last `decay` share to a
    fiftieth. What is read in which step says `corpus.MIXTURES`.
    """

    steps: int
    rate: float
    warmup: int
    decay: float


# The first learns everything. Its reviews say too little in too few ways, so that nano labelled
# four of five. The second reads reviews of a wider kind (`review_more.py`) for the most part, still
# made of phrases; the third 7,000 that were written one by one.
STAGES = (
    Stage(steps=4000, rate=1e-2, warmup=100, decay=0.1),
    Stage(steps=1300, rate=5e-3, warmup=50, decay=0.4),
    Stage(steps=1000, rate=3e-3, warmup=50, decay=0.6),
)
