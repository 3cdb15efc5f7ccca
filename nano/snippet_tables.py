"""Words and interchangeable names for the templates of `snippet_template`."""

from __future__ import annotations

WORDS = (
    "apple pear plum bread milk table chair lamp river stone cloud garden forest window paper "
    "pencil candle bridge castle market winter summer silver copper orange purple yellow planet "
    "rocket engine basket button kitten rabbit tiger falcon banana cherry lemon tomato carrot"
).split()
PEOPLE = (
    "Ada Alan Amir Anna Ben Carla Chen Clara David Elena Emma Finn Grace Hugo Ines Ivan Jonas "
    "Kim Lena Leo Lucas Maria Mina Nora Omar Paul Rosa Sam Sofia Tom Yuki Zoe"
).split()

# Names that may replace one another, by slot.
POOLS: dict[str, tuple[str, ...]] = {
    name: tuple(words.split())
    for name, words in {
        "total": "total result subtotal running_total amount_so_far",
        "result": "result output results collected answer",
        "count": "count counter matches hits tally",
        "counts": "counts frequency tally occurrences histogram",
        "i": "i index idx position",
        "j": "j k",
        "n": "n number num value",
        "k": "k size step width",
        "best": "best largest biggest winner highest",
        "least": "smallest lowest minimum least",
        "text": "text string sentence content message",
        "word": "word term token name",
        "char": "char character letter symbol c",
        "limit": "limit threshold cutoff bound",
        "low": "low start lower minimum",
        "high": "high stop upper maximum",
        "target": "target wanted goal needle",
        "seen": "seen visited known found_before",
        "key": "key name label",
        "value": "value amount entry",
        "mapping": "mapping table data records lookup",
        "func": "func function transform operation",
        "pred": "predicate condition test keep",
        "path": "path filename file_path source",
        "file": "file handle stream f",
        "line": "line row_text raw_line",
        "row": "row record entry",
        "matrix": "matrix grid table rows_of_numbers",
        "mean": "mean average center",
        "sep": "separator delimiter sep",
        "radius": "radius r",
        "width": "width w",
        "height": "height h",
        "price": "price amount cost",
        "rate": "rate percent ratio",
        "years": "years periods duration",
        "middle": "middle mid center",
        "default": "default fallback",
        "left": "left start low",
        "right": "right end high",
        "digits": "digits parts symbols",
        "remaining": "remaining rest number_left",
        "pivot": "pivot middle_value",
        "gap": "difference gap delta",
        "current": "current node_value latest",
        "args": "args options arguments",
    }.items()
}


def _rows(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(row.split("/")) for row in text.split())


_NUMBERS = (("xs", "x"), _rows(
    "numbers/number values/value nums/num readings/reading amounts/amount"
))
_PAIRS = (("a", "b"), _rows("a/b x/y left/right first/second one/other"))
_ITEMS = (("items", "item"), _rows("items/item elements/element things/thing entries/entry"))
_WORDS = (("words", "w"), _rows("words/word names/name strings/string tokens/token terms/term"))
_POINTS = (("p", "q"), _rows("p/q start/end first/second a/b here/there"))
_DICTS = (("d", "key", "value"), _rows(
    "scores/name/score prices/item/price stock/product/quantity ages/person/age "
    "counts/word/count votes/candidate/number grades/student/grade"
))
_LISTS = (("ls", "rs"), _rows("first/second left/right a/b xs/ys old/new"))
_NODES = (("Node",), _rows("Node Item Entry Element Link"))
_ALL = (_NUMBERS, _ITEMS, _WORDS, _POINTS, _DICTS, _LISTS, _NODES, _PAIRS)
GROUPS = {slot: group for group in _ALL for slot in group[0]
          if slot not in ("key", "value")}
