"""Chat data for the embedded model: short conversations about simple things, made from tables."""

from __future__ import annotations

import contextlib
import io
import random
import re
from collections.abc import Callable, Iterator

import dialogue_tables as tables
from korean import conjugate, particle

Exchange = tuple[str, str]


def talk_rows(table: str) -> list[tuple[list[str], list[str]]]:
    """Questions and answers of each group of a talk table."""
    rows: list[tuple[list[str], list[str]]] = []
    for line in table.strip().splitlines():
        asks = line.startswith("? ")
        if asks and (not rows or rows[-1][1]):
            rows.append(([], []))
        rows[-1][0 if asks else 1].extend(line[2:].split("/"))
    return rows


def pairs(table: str) -> list[tuple[str, str]]:
    rows = (item.split(":") for line in table.split("\n") for item in line.split("/") if item)
    return [(key, value) for key, value in rows]


def programs(table: str) -> list[tuple[str, str, list[str]]]:
    """Title, code template and explanation sentences of each program."""
    rows = re.findall(r"^# (.+?)\n(.+?)\n> (.+?)$", table, re.MULTILINE | re.DOTALL)
    return [(title, code, re.split(r"(?<=\.) ", steps)) for title, code, steps in rows]


TALK, WHO, TALK_KO = talk_rows(tables.TALK), talk_rows(tables.WHO), talk_rows(tables.TALK_KO)
CLOSINGS = [row for row in TALK if row[0][0] in ("thanks", "bye")]
OPPOSITES, OPPOSITES_KO = pairs(tables.OPPOSITES), pairs(tables.OPPOSITES_KO)
COLOURS, COLOURS_KO = pairs(tables.COLOURS), pairs(tables.COLOURS_KO)
CAPITALS, CAPITALS_KO = pairs(tables.CAPITALS), pairs(tables.CAPITALS_KO)
PLURALS, SOUNDS, LEGS = pairs(tables.PLURALS), pairs(tables.SOUNDS), pairs(tables.LEGS)
DAYS, DAYS_KO, MONTHS = tables.DAYS.split(), tables.DAYS_KO.split(), tables.MONTHS.split()
NUMBER_WORDS, WORDS = tables.NUMBER_WORDS.split(), tables.WORDS.split()
HOW_TO = [row.split(" > ", 1) for row in tables.HOW_TO.strip().splitlines()]
PROGRAMS = programs(tables.PROGRAMS)


def small_talk(rng: random.Random) -> Exchange:
    asked, said = rng.choice(TALK)
    return rng.choice(asked), rng.choice(said)


def who(rng: random.Random) -> Exchange:
    asked, said = rng.choice(WHO)
    return rng.choice(asked), rng.choice(said)


def korean_talk(rng: random.Random) -> Exchange:
    asked, said = rng.choice(TALK_KO)
    return rng.choice(asked), rng.choice(said)


def operation(rng: random.Random) -> tuple[int, str, int, int]:
    """A sum with its result, in numbers a child can do."""
    sign = rng.choice("++--*")
    if sign == "*":
        a, b = rng.randint(0, 10), rng.randint(0, 10)
        return a, sign, b, a * b
    limit = rng.choice([10, 20, 50])
    a, b = rng.randint(0, limit), rng.randint(0, limit)
    if sign == "-":
        a, b = max(a, b), min(a, b)
        return a, sign, b, a - b
    return a, sign, b, a + b


def arithmetic(rng: random.Random) -> Exchange:
    a, sign, b, result = operation(rng)
    word = {"+": "plus", "-": "minus", "*": "times"}[sign]
    asked = rng.choice(
        [
            f"What is {a} {sign} {b}?",
            f"What is {a} {word} {b}?",
            f"{a} {sign} {b}",
            f"{a}{sign}{b}=?",
            f"How much is {a} {word} {b}?",
            f"Calculate {a} {sign} {b}.",
            f"can you compute {a} {word} {b}",
        ]
    )
    said = rng.choice(
        [
            f"{a} {sign} {b} = {result}",
            f"{result}",
            f"{a} {word} {b} is {result}.",
            f"It is {result}.",
        ]
    )
    return asked, said


def korean_arithmetic(rng: random.Random) -> Exchange:
    a, sign, b, result = operation(rng)
    word = {"+": "더하기", "-": "빼기", "*": "곱하기"}[sign]
    asked = [f"{a} {word} {b}는 얼마야?", f"{a} {sign} {b}는?", f"{a} {word} {b} 계산해 줘"]
    said = [f"{result}입니다.", f"{a} {sign} {b} = {result}", f"답은 {result}입니다."]
    return rng.choice(asked), rng.choice(said)


def opposite(rng: random.Random) -> Exchange:
    word, other = rng.choice(OPPOSITES)
    if rng.random() < 0.5:
        word, other = other, word
    asked = [
        f"What is the opposite of {word}?",
        f"opposite of {word}",
        f"The opposite of {word} is?",
    ]
    return rng.choice(asked), rng.choice([f"The opposite of {word} is {other}.", f"{other}"])


def colour(rng: random.Random) -> Exchange:
    thing, name = rng.choice(COLOURS)
    verb = rng.choice(["color", "colour"])
    asked = [
        f"What {verb} is {thing}?",
        f"which {verb} is {thing}",
        f"Tell me the {verb} of {thing}.",
    ]
    sentence = f"{thing} is {name}."
    return rng.choice(asked), rng.choice([sentence[0].upper() + sentence[1:], f"It is {name}."])


def plural(rng: random.Random) -> Exchange:
    one, many = rng.choice(PLURALS)
    asked = [f"What is the plural of {one}?", f"plural of {one}", f"One {one}, two ...?"]
    return rng.choice(asked), rng.choice([f"The plural of {one} is {many}.", f"{many}"])


def capital(rng: random.Random) -> Exchange:
    country, city = rng.choice(CAPITALS)
    if rng.random() < 0.2:
        return f"Which country has the capital {city}?", f"{city} is the capital of {country}."
    asked = [
        f"What is the capital of {country}?",
        f"capital of {country}",
        f"Do you know the capital of {country}?",
    ]
    return rng.choice(asked), rng.choice([f"The capital of {country} is {city}.", f"It is {city}."])


def calendar(rng: random.Random) -> Exchange:
    names, unit = rng.choice([(DAYS, "day"), (MONTHS, "month")])
    i, step = rng.randrange(len(names)), rng.choice([1, -1])
    name, other = names[i], names[(i + step) % len(names)]
    side = "after" if step == 1 else "before"
    asked = [f"Which {unit} comes {side} {name}?", f"what {unit} is {side} {name}"]
    return rng.choice(asked), rng.choice([f"{other} comes {side} {name}.", f"{other}"])


def count(rng: random.Random) -> Exchange:
    first = rng.randint(0, 12)
    last = first + rng.randint(2, 6)
    if rng.random() < 0.4:
        number = rng.randrange(len(NUMBER_WORDS))
        return f"Write {number} as a word.", NUMBER_WORDS[number]
    numbers = ", ".join(str(number) for number in range(first, last + 1))
    return rng.choice(
        [f"Count from {first} to {last}.", f"count {first} to {last} please"]
    ), numbers


def animal(rng: random.Random) -> Exchange:
    if rng.random() < 0.5:
        name, sound = rng.choice(SOUNDS)
        return (
            f"What sound does {article(name)} make?",
            f"{article(name).capitalize()} says {sound}.",
        )
    name, legs = rng.choice(LEGS)
    return (
        f"How many legs does {article(name)} have?",
        f"{article(name).capitalize()} has {legs} legs.",
    )


def article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def spelling(rng: random.Random) -> Exchange:
    word = rng.choice(WORDS)
    return rng.choice(
        [
            (f"Spell {word}.", "-".join(word)),
            (f"What is the first letter of {word}?", f"The first letter of {word} is {word[0]}."),
            (f"What is the last letter of {word}?", f"The last letter of {word} is {word[-1]}."),
            (f"How many letters does {word} have?", f"{word} has {len(word)} letters."),
            (f"Write {word} in capitals.", word.upper()),
            (f"Write {word} backwards.", word[::-1]),
        ]
    )


def korean_fact(rng: random.Random) -> Exchange:
    kind = rng.choice(["capital", "colour", "opposite", "day"])
    if kind == "capital":
        country, city = rng.choice(CAPITALS_KO)
        asked = [f"{country}의 수도는 어디야?", f"{country} 수도 알려 줘", f"{country}의 수도는?"]
        return rng.choice(asked), conjugate(f"{country}의 수도는 {city}=", "polite") + "."
    if kind == "colour":
        thing, name = rng.choice(COLOURS_KO)
        topic = particle(thing, "은", "는")
        return f"{topic} 무슨 색이야?", f"{topic} {name}이에요."
    if kind == "opposite":
        word, other = rng.choice(OPPOSITES_KO)
        if rng.random() < 0.5:
            word, other = other, word
        return f"'{word}'의 반대말은?", f"'{word}'의 반대말은 '{other}'입니다."
    i = rng.randrange(7)
    return f"{DAYS_KO[i]} 다음 날은?", f"{DAYS_KO[(i + 1) % 7]}이에요."


def how_to(rng: random.Random) -> Exchange:
    task, code = rng.choice(HOW_TO)
    asked = [
        f"How do I {task} in Python?",
        f"How can I {task} in Python?",
        f"How to {task} in python",
        f"Python code to {task}?",
        f"Show me how to {task} in Python.",
        f"What is the Python code to {task}?",
        f"i want to {task} in python",
    ]
    code = f"```python\n{code.replace(chr(92) + 'n', chr(10))}\n```"
    before = rng.choice(["", "Use this:\n", "Like this:\n", f"To {task}:\n", "You can write:\n"])
    return rng.choice(asked), before + code


def output_of(code: str) -> str:
    """What `code` (one of our own programs) prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    return printed.getvalue().rstrip("\n")


def explain(rng: random.Random) -> Exchange:
    """A short program, explained by a title, its steps and the output to expect."""
    title, code, steps = rng.choice(PROGRAMS)
    word, word2 = rng.sample(WORDS, 2)
    names = {
        "name": rng.choice(tables.LIST_NAMES.split()),
        "numbers": str(rng.sample(range(1, 30), rng.randint(3, 5))),
        "small": rng.randint(2, 6),
        "tiny": rng.randint(2, 5),
        "other": rng.randint(1, 20),
        "word": word,
        "word2": word2,
        "person": rng.choice(tables.PEOPLE.split()),
    }
    code = code.format(**names)
    asked = rng.choice(
        [
            "Explain this Python code:",
            "What does this code do?",
            "Can you explain this program?",
            "explain:",
            "Explain step by step:",
        ]
    )
    numbered = "\n".join(f"{i}. {step.format(**names)}" for i, step in enumerate(steps, 1))
    said = f"{title}\n\nStep by step:\n{numbered}\n\nOutput:\n{output_of(code)}"
    return f"{asked}\n```python\n{code}\n```", said


# How often each kind of exchange is drawn.
KINDS: dict[Callable[[random.Random], Exchange], int] = {
    small_talk: 12,
    who: 10,
    korean_talk: 9,
    arithmetic: 9,
    korean_arithmetic: 3,
    opposite: 4,
    colour: 3,
    plural: 4,
    capital: 5,
    calendar: 4,
    count: 3,
    animal: 2,
    spelling: 5,
    korean_fact: 5,
    how_to: 12,
    explain: 10,
}


def written(rng: random.Random, question: str) -> str:
    """The question as one may type it: with a capital or without, with or without its mark."""
    if "\n" in question:
        return question
    if rng.random() < 0.2 and question.isascii():
        question = rng.choice(tables.LEAD_INS.split("/")) + " " + question[0].lower() + question[1:]
    if rng.random() < 0.5:
        question = question[0].upper() + question[1:]
    return question.rstrip("?.") if rng.random() < 0.15 else question


def dialogues(seed: int, count: int) -> Iterator[list[dict[str, str]]]:
    """`count` conversations of one to three exchanges; the same for the same `seed`."""
    rng = random.Random(seed)
    for _ in range(count):
        length = rng.choices([1, 2, 3], [18, 45, 37])[0]
        kinds = rng.choices(list(KINDS), list(KINDS.values()), k=length)
        exchanges = [kind(rng) for kind in kinds]
        if length > 1 and rng.random() < 0.3:
            asked, said = rng.choice(CLOSINGS)
            exchanges[-1] = rng.choice(asked), rng.choice(said)
        yield [
            message
            for question, answer in exchanges
            for message in (
                {"role": "user", "content": written(rng, question)},
                {"role": "assistant", "content": answer},
            )
        ]
