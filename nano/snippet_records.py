"""Kinds of records, and families of code about them (format: `snippet_template`)."""

from __future__ import annotations

# Class, text field, other text field, number field, other number field.
ENTITIES = tuple(
    tuple(row.split())
    for row in """
Book title author price pages
Movie title director rating minutes
Song title artist seconds plays
Album name artist year price
Student name school grade age
Teacher name subject salary age
Employee name role salary age
Customer name city balance orders
Product name category price quantity
Item name brand price weight
Car model color price year
Bike model color price gears
Truck model company load year
Boat name harbor length speed
Plane model airline seats speed
Train name line seats speed
City name country population area
Country name continent population area
River name country length width
Mountain name range height year
Island name sea population area
Planet name color radius moons
Star name constellation mass distance
Animal name species weight age
Dog name breed weight age
Cat name color weight age
Bird name species wingspan weight
Fish name species length weight
Plant name family height age
Tree name species height age
Flower name color price height
Fruit name color price weight
Recipe title cuisine minutes calories
Meal name cuisine price calories
Drink name brand price volume
Coffee name origin price strength
Player name team score level
Team name city points wins
Match home away score round
Game title genre price rating
Account owner bank balance limit
Payment sender receiver amount year
Invoice customer company amount days
Order customer product amount quantity
Ticket event seat price row
Hotel name city price rooms
Room name building area floor
House address city price rooms
Flight origin destination price minutes
Trip origin destination distance days
Task title project priority hours
Note title topic length year
Message sender subject size year
Sensor name place value limit
Server name region load memory
File name folder size year
Image name format width height
Video title channel seconds views
Course title teacher hours price
Exam subject student score year
""".strip().split("\n")
)

RECORD_CLASSES = """
%% $Item
@dataclass
class $f:
    : A $item with its $_s1, $_s2, $_n1 and $_n2.

    $s1: str
    $s2: str
    $n1: int
    $n2: int = 0
%% $Item
@dataclass
class $f:
    : A $item with $_s1 and $_n1.

    $s1: str
    $s2: str
    $n1: float
    $n2: int

    def is_$big(self, limit: float) -> bool:
        : Return True if the $n1 is above the limit.
        return self.$n1 > limit
%% $Item
@dataclass(frozen=True)
class $f:
    : A $item with its $_s1 and $_n1.

    $s1: str
    $s2: str
    $n1: float
    $n2: int

    def label(self) -> str:
        : Return a short description.
        return f"{self.$s1} ({self.$n1})"
%% $Item
class $f:
    : A $item with its $_s1, $_s2, $_n1 and $_n2.

    def __init__(self, $s1: str, $s2: str, $n1: int, $n2: int) -> None:
        self.$s1 = $s1
        self.$s2 = $s2
        self.$n1 = $n1
        self.$n2 = $n2

    def __repr__(self) -> str:
        return f"$Item({self.$s1!r}, {self.$s2!r}, {self.$n1}, {self.$n2})"
%% $Item
class $f:
    : Represents a $item.

    def __init__(self, $s1: str, $s2: str, $n1: int, $n2: int = 0) -> None:
        self.$s1 = $s1
        self.$s2 = $s2
        self.$n1 = $n1
        self.$n2 = $n2

    def __str__(self) -> str:
        return f"{self.$s1}: {self.$n1}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, $Item) and self.$s1 == other.$s1

    def __lt__(self, other: "$Item") -> bool:
        return self.$n1 < other.$n1
%% $Item
class $f:
    : A $item.

    def __init__(self, $s1: str, $s2: str, $n1: int, $n2: int) -> None:
        : Store the $s1, $s2, $n1 and $n2.
        if $n1 < 0:
            raise ValueError("$n1 must not be negative")
        self.$s1 = $s1
        self.$s2 = $s2
        self.$n1 = $n1
        self.$n2 = $n2

    def to_dict(self) -> dict[str, Any]:
        : Return the $item as a dictionary.
        return {
            "$s1": self.$s1,
            "$s2": self.$s2,
            "$n1": self.$n1,
            "$n2": self.$n2,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "$Item":
        : Create a $item from a dictionary.
        return cls(data["$s1"], data["$s2"], data["$n1"], data["$n2"])
%% $Item
class $f:
    : A $item whose $n1 can change.

    def __init__(self, $s1: str, $s2: str, $n1: int, $n2: int) -> None:
        self.$s1 = $s1
        self.$s2 = $s2
        self._$n1 = $n1
        self.$n2 = $n2

    @property
    def $n1(self) -> int:
        : Return the $n1.
        return self._$n1

    @$n1.setter
    def $n1(self, value: int) -> None:
        if value < 0:
            raise ValueError("$n1 must not be negative")
        self._$n1 = value

    def change_$n1(self, change: int) -> None:
        : Add the change to the $n1.
        self.$n1 += change
%% $Item
class $f(NamedTuple):
    : A $item with its $_s1, $_s2, $_n1 and $_n2.

    $s1: str
    $s2: str
    $n1: int
    $n2: int
"""
RECORD_FUNCTIONS = """
%% find_$item|find_$item_by_$s1|get_$item
def $f($items: list[$Item], $s1: str) -> $Item | None:
    : Return the $item with the given $s1, or None.
    for $item in $items:
        if $item.$s1 == $s1:
            return $item
    return None
--
    return next(($item for $item in $items if $item.$s1 == $s1), None)
%% total_$n1|sum_of_$n1|*total_$n1
def $f($items: list[$Item]) -> int:
    : Return the total $n1 of the $items.
    return sum($item.$n1 for $item in $items)
--
    $total = 0
    for $item in $items:
        $total += $item.$n1
    return $total
%% average_$n2|mean_$n2|*average_$n2
def $f($items: list[$Item]) -> float:
    : Return the average $n2 of the $items.
    if not $items:
        return 0.0
    return sum($item.$n2 for $item in $items) / len($items)
--
    if not $items:
        return 0.0
    $total = 0
    for $item in $items:
        $total += $item.$n2
    return $total / len($items)
%% sort_by_$n1|sorted_by_$n1
def $f($items: list[$Item]) -> list[$Item]:
    : Return the $items sorted by $n1.
    return sorted($items, key=lambda $item: $item.$n1)
%% rank_by_$n2|top_by_$n2
def $f($items: list[$Item], count: int = 3) -> list[$Item]:
    : Return the $items with the highest $n2.
    ranked = sorted($items, key=lambda $item: $item.$n2, reverse=True)
    return ranked[:count]
%% highest_$n1|find_highest_$n1|$item_with_highest_$n1
def $f($items: list[$Item]) -> $Item:
    : Return the $item with the highest $n1.
    return max($items, key=lambda $item: $item.$n1)
--
    best = $items[0]
    for $item in $items[1:]:
        if $item.$n1 > best.$n1:
            best = $item
    return best
%% lowest_$n2|find_lowest_$n2|$item_with_lowest_$n2
def $f($items: list[$Item]) -> $Item:
    : Return the $item with the lowest $n2.
    return min($items, key=lambda $item: $item.$n2)
%% group_by_$s2|$items_by_$s2
def $f($items: list[$Item]) -> dict[str, list[$Item]]:
    : Group the $items by $s2.
    groups = {}
    for $item in $items:
        groups.setdefault($item.$s2, []).append($item)
    return groups
--
    groups = defaultdict(list)
    for $item in $items:
        groups[$item.$s2].append($item)
    return dict(groups)
%% count_by_$s2|$item_count_by_$s2
def $f($items: list[$Item]) -> dict[str, int]:
    : Count the $items of each $s2.
    counts = {}
    for $item in $items:
        counts[$item.$s2] = counts.get($item.$s2, 0) + 1
    return counts
--
    return dict(Counter($item.$s2 for $item in $items))
%% filter_by_$s2|$items_with_$s2
def $f($items: list[$Item], $s2: str) -> list[$Item]:
    : Return the $items with the given $s2.
    return [$item for $item in $items if $item.$s2 == $s2]
--
    found = []
    for $item in $items:
        if $item.$s2 == $s2:
            found.append($item)
    return found
%% $items_above_$n1|filter_by_$n1
def $f($items: list[$Item], $limit: int) -> list[$Item]:
    : Return the $items whose $n1 is above the $limit.
    return [$item for $item in $items if $item.$n1 > $limit]
--
    $result = []
    for $item in $items:
        if $item.$n1 > $limit:
            $result.append($item)
    return $result
%% all_$plural|list_$plural
def $f($items: list[$Item]) -> list[str]:
    : Return the $s1 of each $item.
    return [$item.$s1 for $item in $items]
--
    $result = []
    for $item in $items:
        $result.append($item.$s1)
    return $result
%% index_by_$s1|$items_by_$s1
def $f($items: list[$Item]) -> dict[str, $Item]:
    : Return a dictionary from $s1 to $item.
    return {$item.$s1: $item for $item in $items}
%% print_$items|show_$items
def $f($items: list[$Item]) -> None:
    : Print one line for each $item.
    for $item in $items:
        print(f"{$item.$s1}: {$item.$n1}")
--
    for number, $item in enumerate($items, start=1):
        print(f"{number}. {$item.$s1} ({$item.$s2})")
%% has_$item|contains_$item
def $f($items: list[$Item], $s1: str) -> bool:
    : Return True if some $item has the given $s1.
    return any($item.$s1 == $s1 for $item in $items)
%% load_$items|read_$items
def $f(path: str) -> list[$Item]:
    : Read the $items from a CSV file.
    $items = []
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            numbers = int(row["$n1"]), int(row["$n2"])
            $items.append($Item(row["$s1"], row["$s2"], *numbers))
    return $items
%% save_$items|write_$items
def $f(path: str, $items: list[$Item]) -> None:
    : Write the $items to a CSV file.
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["$s1", "$s2", "$n1", "$n2"])
        for $item in $items:
            writer.writerow([$item.$s1, $item.$s2, $item.$n1, $item.$n2])
%% parse_$item|$item_from_line
def $f(line: str) -> $Item:
    : Create a $item from a line of comma separated fields.
    $s1, $s2, $n1, $n2 = line.strip().split(",")
    return $Item($s1, $s2, int($n1), int($n2))
%% describe_$item|format_$item
def $f($item: $Item) -> str:
    : Return a line of text about the $item.
    return f"{$item.$s1}, {$item.$s2}: {$item.$n1}"
"""
