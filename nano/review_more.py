"""Reviews of a wider kind than those of `reviews.py`, for the second stage of training nano.

They are made from the banks of `review_more_*.py`: whole sentences by topic, negations, a turn that
decides, facts without an opinion, one-word reviews, slips of the keyboard.
"""

from __future__ import annotations

import random
import re
from functools import partial

import review_more_en as en
import review_more_ko as ko
import review_more_ko2 as ko2
import review_more_ko3 as ko3
import review_more_ko4 as ko4
import review_more_ko5 as ko5
import reviews
from korean import has_final, particle
from reviews import Group, parse

KO_TOPICS = [
    parse(bank)[0]
    for bank in (
        ko.DELIVERY, ko.WAITING, ko.STAFF, ko.PRICE, ko.PORTION, ko2.CLEAN, ko2.PARKING, ko2.AGAIN,
        ko2.COMPARE, ko2.EXPECT, ko2.EVENT, ko3.NEGATION, ko3.IRONY, ko3.STARS, ko5.PLAIN,
        ko5.INDIRECT, ko5.GRADED,
    )
]  # fmt: skip
KO_SHORT, KO_CONCEDE, KO_DECIDE, KO_NEUTRAL = (
    parse(bank)[0] for bank in (ko3.SHORT, ko4.CONCEDE, ko4.DECIDE, ko4.NEUTRAL)
)
KO_KINDS, KO_NEGATED = parse(ko4.KINDS), parse(ko4.NEGATED)
EN_SAID, EN_CONCEDE, EN_DECIDE, EN_NEUTRAL = (
    parse(bank)[0] for bank in (en.SENTENCES, en.CONCEDE, en.DECIDE, en.NEUTRAL)
)
EN_NEGATED = parse(en.NEGATED)


def _words(bank: str, foods: list[Group]) -> dict[str, tuple[str, ...]]:
    dishes = tuple(subject for group in foods for subject in group.subjects)
    named = {group.subjects[0]: group.neutral for group in parse(bank)}
    plain = tuple(dish.removeprefix("the ").rstrip("*") for dish in dishes)
    return named | {"음식": dishes, "food": plain}


KO_WORDS, EN_WORDS = _words(ko4.SLOTS, reviews.KO_FOODS), _words(en.SLOTS, reviews.EN_FOODS)
PARTICLES = {"이": "가", "은": "는", "을": "를", "이랑": "랑"}

# What a negation makes of `{stem}다`; two predicates of a group fill `{stem}` and `{other}`.
KO_NOT_BAD = (
    "{stem}지 않다", "전혀 {stem}지 않다", "{stem}지도 않다", "하나도 안 {stem}다",
    "그렇게 {stem}지 않다", "{stem}지 않아서 좋다", "{stem}지 않을까 걱정했는데 괜찮다",
    "{stem}다는 말이 있던데 전혀 아니다", "{stem}지도 않고 {other}지도 않다", "{stem}지 않고 좋다",
    "생각만큼 {stem}지 않다",
)  # fmt: skip
KO_NOT_GOOD = (
    "{stem}지 않다", "그다지 {stem}지 않다", "{stem}지는 않다", "별로 안 {stem}다",
    "전혀 {stem}지 않다", "{stem}다고는 못 하겠다", "{stem}다는 느낌이 없다",
    "{stem}다더니 전혀 아니다", "다들 {stem}다고 하던데 아니다", "{stem}지도 {other}지도 않다",
    "생각만큼 {stem}지 않다", "{stem}다는 생각이 안 들다", "{stem}지 못하다",
)  # fmt: skip
EN_NOT_BAD = (
    "{s} was not {a} at all", "{s} was never {a}", "{s} is far from {a}", "{s} wasn't {a}",
    "{s} was neither {a} nor {b}", "I was afraid {s} would be {a} but no", "{s} wasn't {a}, great",
)  # fmt: skip
EN_NOT_GOOD = (
    "{s} was not {a}", "{s} wasn't {a} at all", "{s} is far from {a}", "{s} was never {a}",
    "I would not call {s} {a}", "{s} was nowhere near {a}", "{s} was neither {a} nor {b}",
    "{s} could have been more {a}", "they say {s} is {a}, it is not", "I wish {s} were {a}",
)  # fmt: skip
EN_TURNS = ("{}, but {}", "{} but {}", "{}. but {}", "although {}, {}", "{}, yet {}")
KO_TURNS = ("근데", "그런데", "하지만", "그래도", "다만", "그치만", "but")


def filled(rng: random.Random, text: str, words: dict[str, tuple[str, ...]]) -> str:
    """`text` with every `{word}` replaced; `{음식이}` gets the particle its last sound asks for."""

    def word(match: re.Match[str]) -> str:
        name = next(name for name in words if match[1].startswith(name))
        chosen, ending = rng.choice(words[name]), match[1][len(name) :]
        if ending in PARTICLES:
            return particle(chosen, ending, PARTICLES[ending])
        return chosen + ending

    return re.sub(r"\{(.+?)\}", word, text)


def slip(rng: random.Random, text: str) -> str:
    """`text` with one letter left out, doubled, or a Korean syllable without its last consonant."""
    places = [i for i, c in enumerate(text) if c.isalpha()]
    if len(places) < 6:
        return text
    place = rng.choice(places)
    letter, kind = text[place], rng.random()
    if kind < 0.5 and has_final(letter):
        changed = chr(ord(letter) - (ord(letter) - 0xAC00) % 28)
    else:
        changed = "" if kind < 0.75 else letter * 2
    return text[:place] + changed + text[place + 1 :]


def negated(rng: random.Random, positive: bool, form: str) -> str:
    group = rng.choice(KO_NEGATED)
    said = group.negative if positive else group.positive
    stem, other = (rng.choice(said).removesuffix("다") for _ in range(2))
    pattern = rng.choice(KO_NOT_BAD if positive else KO_NOT_GOOD)
    subject = filled(rng, rng.choice(group.subjects), KO_WORDS)
    return reviews.inflected(rng, subject, pattern.format(stem=stem, other=other), form, "")


def ko_sentence(rng: random.Random, positive: bool, register: str) -> str:
    """One Korean sentence of the opinion, without its full stop."""
    fill = partial(filled, rng, words=KO_WORDS)
    kind = rng.choices(
        ["said", "turn", "negated", "remark", "usual", "short"], [48, 11, 9, 8, 20, 4]
    )[0]
    form = rng.choice(reviews.REGISTERS[register][0].split(","))
    if kind == "said":
        return fill(rng.choice(rng.choice(KO_TOPICS).of(positive)))
    if kind == "turn":
        decides = fill(rng.choice(KO_DECIDE.of(positive)))
        if rng.random() < 0.3:
            decides = ko_sentence(rng, positive, register)
        gives = fill(rng.choice(KO_CONCEDE.of(not positive)))
        return f"{gives}{rng.choice([' ', ' ', ', '])}{decides}"
    if kind == "negated":
        return negated(rng, positive, form)
    if kind == "remark":
        return reviews.inflected(rng, *reviews.minor_remark(rng, KO_KINDS, positive), form, "")
    if kind == "short":
        return rng.choice(KO_SHORT.of(positive))
    return reviews.ko_sentence(rng, positive, register)


def korean_review(rng: random.Random, positive: bool) -> str:
    if rng.random() < 0.1:
        sentences = rng.sample(KO_SHORT.of(positive), rng.choice([1, 1, 1, 2, 3]))
        return reviews.ko_finished(rng, sentences, positive)
    register = rng.choices(list(reviews.REGISTERS), [50, 20, 10, 12, 8])[0]
    count = rng.choices([1, 2, 3, 4], [44, 33, 17, 6])[0]
    sentences = [ko_sentence(rng, positive, register) for _ in range(count)]
    if rng.random() < 0.09:
        # The other opinion comes first and the turn takes it back.
        other = reviews.minor_remark(rng, reviews.KO_MINOR, not positive)
        form = rng.choice(reviews.REGISTERS[register][0].split(","))
        sentences[0] = f"{rng.choice(KO_TURNS)} {sentences[0]}"
        sentences.insert(0, reviews.inflected(rng, *other, form, "은"))
    if rng.random() < 0.22:
        sentences.insert(0, filled(rng, rng.choice(KO_NEUTRAL.neutral), KO_WORDS))
    text = reviews.ko_finished(rng, sentences, positive)
    return slip(rng, text) if rng.random() < 0.12 else text


def en_sentence(rng: random.Random, positive: bool) -> str:
    """One English sentence of the opinion, without its full stop."""
    fill = partial(filled, rng, words=EN_WORDS)
    kind = rng.choices(["said", "turn", "negated", "usual"], [48, 13, 10, 29])[0]
    if kind == "said":
        return fill(rng.choice(EN_SAID.of(positive)))
    if kind == "turn":
        gives = fill(rng.choice(EN_CONCEDE.of(not positive)))
        decides = fill(rng.choice(EN_DECIDE.of(positive)))
        return rng.choice(EN_TURNS).format(gives, decides)
    if kind == "negated":
        group = rng.choice(EN_NEGATED)
        said = group.negative if positive else group.positive
        pattern = rng.choice(EN_NOT_BAD if positive else EN_NOT_GOOD)
        subject = fill(rng.choice(group.subjects))
        return pattern.format(s=subject, a=rng.choice(said), b=rng.choice(said))
    return reviews.en_sentence(rng, positive)


def english_review(rng: random.Random, positive: bool) -> str:
    count = rng.choices([1, 2, 3, 4], [42, 34, 18, 6])[0]
    sentences = [en_sentence(rng, positive) for _ in range(count)]
    if rng.random() < 0.22:
        sentences.insert(0, filled(rng, rng.choice(EN_NEUTRAL.neutral), EN_WORDS))
    text = reviews.en_finished(rng, sentences, positive)
    return slip(rng, text) if rng.random() < 0.12 else text
