"""Families composed from tables: filters of numbers and conversions of units."""

from __future__ import annotations

# name, condition on $x, argument kinds besides the list, parameter, words.
CONDITIONS = (
    ("even", "$x % 2 == 0", "", "", "even $xs"),
    ("odd", "$x % 2 == 1", "", "", "odd $xs"),
    ("positive", "$x > 0", "", "", "positive $xs"),
    ("negative", "$x < 0", "", "", "negative $xs"),
    ("non_negative", "$x >= 0", "", "", "$xs that are not negative"),
    ("small", "$x < 10", "", "", "$xs below ten"),
    ("large", "$x >= 10", "", "", "$xs of at least ten"),
    ("two_digit", "10 <= $x <= 99", "", "", "$xs with two digits"),
    ("above", "$x > $limit", " int", "$limit: int", "$xs above the $limit"),
    ("below", "$x < $limit", " int", "$limit: int", "$xs below the $limit"),
    ("at_least", "$x >= minimum", " int", "minimum: int", "$xs that are at least the minimum"),
    ("at_most", "$x <= maximum", " int", "maximum: int", "$xs that are at most the maximum"),
    ("between", "$low <= $x <= $high", " n int", "$low: int, $high: int",
     "$xs between $low and $high"),
    ("divisible", "$x % divisor == 0", " small", "divisor: int", "$xs divisible by the divisor"),
    ("equal", "$x == $target", " n", "$target: int", "$xs equal to the $target"),
    ("different", "$x != $target", " n", "$target: int", "$xs different from the $target"),
)
# names, result type, docstrings, bodies ({c} is the condition, {w} the words).
ACTIONS = (
    ("filter_{n}|select_{n}|keep_{n}|only_{n}", "list[int]",
     "Return the {w}. | Keep only the {w}.", (
        "return [$x for $x in $xs if {c}]",
        "$result = []\nfor $x in $xs:\n    if {c}:\n        $result.append($x)\nreturn $result",
        "return list(filter(lambda $x: {c}, $xs))")),
    ("count_{n}|number_of_{n}", "int", "Return the number of {w}. | Count the {w}.", (
        "return sum(1 for $x in $xs if {c})",
        "$count = 0\nfor $x in $xs:\n    if {c}:\n        $count += 1\nreturn $count",
        "return len([$x for $x in $xs if {c}])")),
    ("sum_{n}|add_{n}|total_{n}", "int", "Return the sum of the {w}. | Add up the {w}.", (
        "return sum($x for $x in $xs if {c})",
        "$total = 0\nfor $x in $xs:\n    if {c}:\n        $total += $x\nreturn $total")),
    ("first_{n}|find_{n}", "int | None", "Return the first of the {w}, or None.", (
        "for $x in $xs:\n    if {c}:\n        return $x\nreturn None",
        "return next(($x for $x in $xs if {c}), None)")),
    ("any_{n}|has_{n}", "bool", "Return True if there are {w}.", (
        "return any({c} for $x in $xs)",
        "for $x in $xs:\n    if {c}:\n        return True\nreturn False")),
    ("all_{n}|are_all_{n}", "bool", "Return True if there are only {w}.", (
        "return all({c} for $x in $xs)",
        "for $x in $xs:\n    if not ({c}):\n        return False\nreturn True")),
    ("remove_{n}|drop_{n}|without_{n}", "list[int]",
     "Return all $xs except the {w}. | Leave out the {w}.", (
        "return [$x for $x in $xs if not ({c})]",
        "$result = []\nfor $x in $xs:\n    if {c}:\n        continue\n    $result.append($x)\n"
        "return $result")),
    ("largest_{n}|max_{n}", "int", "Return the largest of the {w}.", (
        "return max($x for $x in $xs if {c})",
        "chosen = [$x for $x in $xs if {c}]\nreturn max(chosen)")),
    ("square_{n}|squares_of_{n}", "list[int]", "Return the squares of the {w}.", (
        "return [$x * $x for $x in $xs if {c}]",
        "$result = []\nfor $x in $xs:\n    if {c}:\n        $result.append($x * $x)\n"
        "return $result")),
    ("double_{n}|doubled_{n}", "list[int]", "Return the {w}, doubled.", (
        "return [2 * $x for $x in $xs if {c}]",
        "$result = []\nfor $x in $xs:\n    if {c}:\n        $result.append(2 * $x)\n"
        "return $result")),
    ("average_{n}|mean_of_{n}", "float", "Return the average of the {w}.", (
        "chosen = [$x for $x in $xs if {c}]\nif not chosen:\n    return 0.0\n"
        "return sum(chosen) / len(chosen)",)),
    ("positions_of_{n}|indices_of_{n}", "list[int]", "Return the positions of the {w}.", (
        "return [$i for $i, $x in enumerate($xs) if {c}]",
        "$result = []\nfor $i, $x in enumerate($xs):\n    if {c}:\n        $result.append($i)\n"
        "return $result")),
)
# larger unit, smaller unit, how many smaller make one larger.
UNITS = (
    ("kilometers", "meters", 1000), ("meters", "centimeters", 100), ("meters", "millimeters", 1000),
    ("centimeters", "millimeters", 10), ("miles", "kilometers", 1.609), ("feet", "inches", 12),
    ("inches", "centimeters", 2.54), ("yards", "feet", 3), ("miles", "feet", 5280),
    ("kilograms", "grams", 1000), ("tons", "kilograms", 1000), ("grams", "milligrams", 1000),
    ("kilograms", "pounds", 2.205), ("pounds", "ounces", 16), ("hours", "minutes", 60),
    ("minutes", "seconds", 60), ("hours", "seconds", 3600), ("days", "hours", 24),
    ("weeks", "days", 7), ("years", "months", 12), ("days", "minutes", 1440),
    ("seconds", "milliseconds", 1000), ("liters", "milliliters", 1000),
    ("gallons", "liters", 3.785),
    ("kilobytes", "bytes", 1024), ("megabytes", "kilobytes", 1024), ("bytes", "bits", 8),
    ("dollars", "cents", 100), ("euros", "cents", 100), ("dozens", "pieces", 12),
    ("kilojoules", "joules", 1000), ("kilowatts", "watts", 1000), ("acres", "hectares", 0.405),
)
SCALES = """
%% celsius_to_fahrenheit|to_fahrenheit|*fahrenheit ; money
def $f(celsius: float) -> float:
    : Convert celsius to fahrenheit. | Return the temperature in fahrenheit.
    return celsius * 9 / 5 + 32
%% fahrenheit_to_celsius|to_celsius|*celsius ; money
def $f(fahrenheit: float) -> float:
    : Convert fahrenheit to celsius. | Return the temperature in celsius.
    return (fahrenheit - 32) * 5 / 9
%% celsius_to_kelvin|to_kelvin|*kelvin ; int
ABSOLUTE_ZERO = -273.15
def $f(celsius: float) -> float:
    : Convert celsius to kelvin.
    return celsius - ABSOLUTE_ZERO
%% split_seconds|to_hours_minutes_seconds ; money
def $f(seconds: int) -> tuple[int, int, int]:
    : Return the hours, minutes and seconds.
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    return hours, minutes, seconds
%% format_duration|format_seconds|show_duration ; money
def $f(seconds: int) -> str:
    : Return the seconds as minutes and seconds.
    minutes = seconds // 60
    rest = seconds % 60
    return f"{minutes}:{rest:02d}"
%% describe_temperature|temperature_label ; int
def $f(celsius: float) -> str:
    : Return a word for the temperature.
    if celsius < 0:
        return "freezing"
    if celsius < 15:
        return "cold"
    if celsius < 25:
        return "warm"
    return "hot"
"""


def _indented(body: str) -> str:
    return "\n".join("    " + line for line in body.split("\n"))


def _filters() -> str:
    blocks = []
    for name, condition, kinds, extra, words in CONDITIONS:
        for names, result, docs, bodies in ACTIONS:
            parameters = "$xs: list[int]" + (", " + extra if extra else "")
            shown = [
                _indented(body.replace("{c}", condition))
                for body in bodies
            ]
            blocks.append(
                f"%% {names.replace('{n}', name)} ; ints{kinds}\n"
                f"def $f({parameters}) -> {result}:\n"
                f"    : {docs.replace('{w}', words)}\n" + "\n--\n".join(shown)
            )
    return "\n".join(blocks)


def _conversions() -> str:
    blocks = []
    for large, small, factor in UNITS:
        constant = f"{small.upper()}_PER_{large.upper().rstrip('S')}"
        for source, goal, sign in ((large, small, "*"), (small, large, "/")):
            head = (
                f"def $f({source}: float) -> float:\n"
                f"    : Convert {source} to {goal}. | Return the {source} in {goal}.\n"
            )
            names = f"{source}_to_{goal}|convert_{source}_to_{goal}|{goal}_from_{source}"
            blocks.append(
                f"%% {names} ; int\n{head}    return {source} {sign} {factor}\n--\n"
                f"    {goal} = {source} {sign} {factor}\n    return {goal}"
            )
            blocks.append(
                f"%% {names} ; int\n{constant} = {factor}\n{head}"
                f"    return {source} {sign} {constant}"
            )
    return "\n".join(blocks) + SCALES


def composed() -> dict[str, str]:
    """Family text by domain."""
    return {"filters": _filters(), "units": _conversions()}
