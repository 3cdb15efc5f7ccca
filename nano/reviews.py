"""Restaurant reviews without labels, to pre-train the embedded model on.

Text is made from the banks of `review_phrases*.py` and `review_sentences.py` by a small grammar.
Every review keeps one opinion (a contrast ends on it), so that a language model which reads many
of them learns which words go together. Seven in ten are Korean, the others English.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import review_phrases as ko
import review_phrases_en as en
import review_sentences as said
from korean import conjugate, particle

KOREAN_SHARE = 0.7

# How a writer ends sentences: forms for remarks, forms for what happened.
REGISTERS = {
    "polite": ("polite,past polite,past polite,surprise,report,past surprise", "past polite"),
    "formal": ("formal,past formal,past formal", "past formal"),
    "casual": ("casual,past casual,casual surprise", "past casual"),
    "notes": ("nominal,past nominal,past nominal", "past nominal"),
    "diary": ("past plain,past plain,nominal", "past plain"),
}


@dataclass(frozen=True)
class Group:
    """Items of a bank that share their subjects."""

    subjects: tuple[str, ...]
    neutral: tuple[str, ...]
    positive: tuple[str, ...]
    negative: tuple[str, ...]

    def of(self, positive: bool) -> tuple[str, ...]:
        return self.neutral + (self.positive if positive else self.negative)


def parse(bank: str) -> list[Group]:
    """The groups of a bank; the format is described in `review_phrases.py`."""
    groups: list[dict[str, list[str]]] = []
    for line in bank.strip().splitlines():
        mark, items = line[0], line[2:].split("/")
        if mark == "@" and (not groups or len(groups[-1]) > 1):
            groups.append({})
        groups[-1].setdefault(mark, []).extend(item.strip() for item in items)
    return [Group(*(tuple(group.get(mark, ())) for mark in "@=+-")) for group in groups]


def spellings(table: str) -> list[tuple[str, list[str]]]:
    rows = (row.split(":", 1) for line in table.strip().splitlines() for row in line.split("/"))
    return [(right, others.split(",")) for right, others in rows]


def misspelt(rng: random.Random, text: str, table: list[tuple[str, list[str]]]) -> str:
    for right, others in table:
        if right in text and rng.random() < 0.35:
            text = text.replace(right, rng.choice(others))
    return text


KO_FOODS, KO_ANY, KO_ASPECTS = parse(ko.FOODS), parse(ko.FOOD_ANY)[0], parse(ko.ASPECTS)
KO_EVENTS, KO_VERDICTS = parse(said.EVENTS)[0], parse(said.VERDICTS)[0]
KO_SENTENCES, KO_OPENERS = parse(said.SENTENCES)[0], parse(said.OPENERS)[0]
KO_NOUNS, KO_NOUN_ENDS = parse(said.NOUN_PHRASES)[0], parse(said.NOUN_VERDICTS)[0]
KO_CALLS, KO_EMOJI, KO_LAUGHS = (
    parse(bank)[0] for bank in (said.INTERJECTIONS, said.EMOJI, said.LAUGHS)
)
KO_SPELLINGS, KO_INTENSIFIERS = spellings(said.SPELLINGS), said.INTENSIFIERS.split("/")
KO_MINOR = [group for group in KO_ASPECTS if group.subjects[0] in ko.MINOR.split("/")]
PAST_ONLY = tuple(item for line in said.PAST_ONLY.strip().splitlines() for item in line.split("/"))

EN_FOODS, EN_ANY, EN_ASPECTS = parse(en.FOODS), parse(en.FOOD_ANY)[0], parse(en.ASPECTS)
EN_EVENTS, EN_SENTENCES = parse(en.EVENTS)[0], parse(en.SENTENCES)[0]
EN_OPENERS, EN_CALLS, EN_EMOJI = (
    parse(bank)[0] for bank in (en.OPENERS, en.INTERJECTIONS, en.EMOJI)
)
EN_MINOR = [group for group in EN_ASPECTS if group.subjects[0] in en.MINOR.split("/")]
EN_SPELLINGS, EN_INTENSIFIERS = spellings(en.SPELLINGS), en.INTENSIFIERS.split("/")


def remark(
    rng: random.Random, foods: list[Group], any_food: Group, aspects: list[Group], positive: bool
) -> tuple[str, str]:
    """A subject and a predicate that agrees with the opinion."""
    group = rng.choice(foods if rng.random() < 0.42 else aspects)
    subject = rng.choice(group.subjects)
    said_of = any_food if group in foods and rng.random() < 0.5 else group
    return subject, rng.choice(said_of.of(positive))


def ko_remark(rng: random.Random, positive: bool, form: str, topic: str = "") -> str:
    """A Korean remark; `topic` fixes the particle of the subject (`도`, `은`), else any."""
    return inflected(rng, *remark(rng, KO_FOODS, KO_ANY, KO_ASPECTS, positive), form, topic)


def inflected(rng: random.Random, subject: str, predicate: str, form: str, topic: str) -> str:
    if predicate.endswith("겠다"):
        form = {"past while": "but", "because": "and"}.get(form, form.removeprefix("past "))
        form = {"plain": "nominal"}.get(form, form)
    if predicate.endswith(PAST_ONLY):
        form = {"casual surprise": "past casual", "report": "past surprise"}.get(form, form)
        if not form.startswith("past") and form not in ("because", "and"):
            form = {"though": "past but", "surprise": "past surprise"}.get(form, "past " + form)
    if " " not in predicate and rng.random() < 0.3:
        predicate = f"{rng.choice(KO_INTENSIFIERS)} {predicate}"
    topic = topic or rng.choices(["이", "은", "도", "-"], [45, 20, 12, 23])[0]
    pairs = {"이": ("이", "가"), "은": ("은", "는"), "도": ("도", "도"), "-": ("", "")}
    return f"{particle(subject, *pairs[topic])} {conjugate(predicate, form)}"


def minor_remark(rng: random.Random, groups: list[Group], positive: bool) -> tuple[str, str]:
    group = rng.choice(groups)
    return rng.choice(group.subjects), rng.choice(group.of(positive))


def ko_sentence(rng: random.Random, positive: bool, register: str) -> str:
    """One Korean sentence of the opinion, without its full stop."""
    remarks, events = (forms.split(",") for forms in REGISTERS[register])
    form, event = rng.choice(remarks), rng.choice(events)
    kind = rng.choices(
        ["remark", "pair", "reason", "contrast", "event", "event pair", "verdict", "nouns", "said"],
        [25, 12, 12, 9, 9, 4, 3, 5, 21],
    )[0]
    happened = rng.choice(KO_EVENTS.of(positive))
    verdict = conjugate(rng.choice(KO_VERDICTS.of(positive)), event)
    if kind == "remark":
        return ko_remark(rng, positive, form)
    if kind == "pair":
        topic = rng.choice(["도", "이", "-"])
        link = rng.choice(["and", "and", "past and"])
        return f"{ko_remark(rng, positive, link, topic)} {ko_remark(rng, positive, form, topic)}"
    if kind == "reason":
        return f"{ko_remark(rng, positive, 'because')} {verdict}"
    if kind == "contrast":
        link = rng.choice(["but", "past but", "though", "past while"])
        subject, predicate = minor_remark(rng, KO_MINOR, not positive)
        end = verdict if rng.random() < 0.2 else ko_remark(rng, positive, form, "은")
        return f"{inflected(rng, subject, predicate, link, '은')} {end}"
    if kind == "event":
        return conjugate(happened, event)
    if kind == "event pair":
        return f"{conjugate(happened, 'because')} {verdict}"
    if kind == "nouns":
        nouns = rng.sample(KO_NOUNS.of(positive), rng.choice([2, 2, 3]))
        return rng.choice([", ", " "]).join([*nouns, rng.choice(KO_NOUN_ENDS.of(positive))])
    return verdict if kind == "verdict" else rng.choice(KO_SENTENCES.of(positive))


def korean_review(rng: random.Random, positive: bool) -> str:
    register = rng.choices(list(REGISTERS), [50, 20, 10, 12, 8])[0]
    count = rng.choices([1, 2, 3, 4], [38, 38, 19, 5])[0]
    sentences = [ko_sentence(rng, positive, register) for _ in range(count)]
    return ko_finished(rng, sentences, positive)


def ko_finished(rng: random.Random, sentences: list[str], positive: bool) -> str:
    """The sentences as one Korean text with an opening, stops, emoji and slips of spelling."""
    if rng.random() < 0.22:
        sentences[0] = f"{rng.choice(KO_OPENERS.of(positive))} {sentences[0]}"
    elif rng.random() < 0.25:
        sentences[0] = f"{rng.choice(KO_CALLS.of(positive))} {sentences[0]}"
    stop = rng.choices([". ", "! ", " ", ".. ", "~ ", ", ", "!! "], [45, 17, 20, 6, 5, 4, 3])[0]
    text = stop.join(sentences)
    if stop[0] not in " ," and rng.random() < 0.7:
        text += stop.rstrip()
    if rng.random() < 0.3:
        text += rng.choice(KO_LAUGHS.of(positive))
    if rng.random() < 0.28:
        text += rng.choice(["", " "]) + rng.choice(KO_EMOJI.of(positive)) * rng.choice([1, 1, 1, 2])
    if rng.random() < 0.3:
        text = misspelt(rng, text, KO_SPELLINGS)
    if rng.random() < 0.15:
        keep = rng.choice([0.0, 0.4, 0.7])
        text = "".join(c for c in text if c != " " or rng.random() < keep)
    return text


def en_remark(rng: random.Random, positive: bool) -> str:
    return with_verb(rng, *remark(rng, EN_FOODS, EN_ANY, EN_ASPECTS, positive))


def with_verb(rng: random.Random, subject: str, predicate: str) -> str:
    plural = subject.endswith("*")
    verb = rng.choice(["were", "were", "are"] if plural else ["was", "was", "is"])
    if " " not in predicate and rng.random() < 0.35:
        predicate = f"{rng.choice(EN_INTENSIFIERS)} {predicate}"
    return f"{subject.rstrip('*')} {verb} {predicate}"


def en_sentence(rng: random.Random, positive: bool) -> str:
    """One English sentence of the opinion, without its full stop."""
    first, second = en_remark(rng, positive), en_remark(rng, positive)
    other = with_verb(rng, *minor_remark(rng, EN_MINOR, not positive))
    event = rng.choice(EN_EVENTS.of(positive))
    patterns = {
        "{first}": 28,
        "{first} and {second}": 14,
        "{first}, {second}": 4,
        "{event}": 10,
        "{event} and {second}": 4,
        "{other} but {second}": 6,
        "even though {other}, {second}": 3,
        "{opinion} because {first}": 3,
        "{said}": 26,
    }
    pattern = rng.choices(list(patterns), list(patterns.values()))[0]
    opinion = rng.choice(
        ["I loved it", "we were happy", "I recommend it", "we enjoyed our meal"]
        if positive
        else ["I hated it", "we were unhappy", "I can't recommend it", "we left early"]
    )
    said_whole = rng.choice(EN_SENTENCES.of(positive))
    return pattern.format(
        first=first, second=second, other=other, event=event, opinion=opinion, said=said_whole
    )


def english_review(rng: random.Random, positive: bool) -> str:
    count = rng.choices([1, 2, 3, 4], [38, 38, 19, 5])[0]
    sentences = [en_sentence(rng, positive) for _ in range(count)]
    return en_finished(rng, sentences, positive)


def en_finished(rng: random.Random, sentences: list[str], positive: bool) -> str:
    """The sentences as one English text with an opening, stops, emoji and slips of spelling."""
    if rng.random() < 0.2:
        sentences.insert(0, rng.choice(EN_OPENERS.of(positive)))
    elif rng.random() < 0.25:
        sentences[0] = f"{rng.choice(EN_CALLS.of(positive))}, {sentences[0]}"
    stop = rng.choices([". ", "! ", ", ", "... ", "!! "], [58, 22, 8, 7, 5])[0]
    if rng.random() < 0.65 and stop[0] != ",":
        sentences = [sentence[0].upper() + sentence[1:] for sentence in sentences]
    text = stop.join(sentences)
    if stop[0] != "," and rng.random() < 0.8:
        text += stop.rstrip()
    if rng.random() < 0.25:
        text += " " + rng.choice(EN_EMOJI.of(positive)) * rng.choice([1, 1, 1, 2])
    if rng.random() < 0.25:
        text = misspelt(rng, text, EN_SPELLINGS)
    return text.upper() if rng.random() < 0.03 else text


def reviews(seed: int, count: int) -> Iterator[str]:
    """`count` reviews, half of them satisfied; the same for the same `seed`."""
    rng = random.Random(seed)
    for _ in range(count):
        write = korean_review if rng.random() < KOREAN_SHARE else english_review
        yield write(rng, rng.random() < 0.5)
