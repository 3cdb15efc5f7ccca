"""Reviews that tell short stories, for the last part of the second stage of training nano."""

from __future__ import annotations

import random

import review_more
import review_stories_en as en
import review_stories_ko as ko
import reviews
from reviews import parse

KO_STORIES = [parse(bank)[0] for bank in (ko.STORIES, ko.STORIES, ko.STORIES, ko.FOOD)]
EN_STORIES = [parse(bank)[0] for bank in (en.STORIES, en.STORIES, en.STORIES, en.FOOD)]


def korean_review(rng: random.Random, positive: bool) -> str:
    register = rng.choice(list(reviews.REGISTERS))

    def sentence() -> str:
        if rng.random() < 0.35:
            return review_more.ko_sentence(rng, positive, register)
        said = rng.choice(rng.choice(KO_STORIES).of(positive))
        return review_more.filled(rng, said, review_more.KO_WORDS)

    count = rng.choices([1, 2, 3], [45, 38, 17])[0]
    return reviews.ko_finished(rng, [sentence() for _ in range(count)], positive)


def english_review(rng: random.Random, positive: bool) -> str:
    def sentence() -> str:
        if rng.random() < 0.35:
            return review_more.en_sentence(rng, positive)
        said = rng.choice(rng.choice(EN_STORIES).of(positive))
        return review_more.filled(rng, said, review_more.EN_WORDS)

    count = rng.choices([1, 2, 3], [45, 38, 17])[0]
    return reviews.en_finished(rng, [sentence() for _ in range(count)], positive)
