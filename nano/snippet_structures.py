"""Further class families (format: `snippet_template`)."""

STRUCTURES = r"""
%% LinkedList|SimpleList|Chain
class $Node:
    def __init__(self, value: int) -> None:
        self.value = value
        self.next = None


class $f:
    : A list of linked nodes.

    def __init__(self) -> None:
        self.head = None

    def prepend(self, value: int) -> None:
        : Add a value at the front.
        node = $Node(value)
        node.next = self.head
        self.head = node

    def append(self, value: int) -> None:
        : Add a value at the end.
        node = $Node(value)
        if self.head is None:
            self.head = node
            return
        current = self.head
        while current.next is not None:
            current = current.next
        current.next = node

    def to_list(self) -> list[int]:
        : Return the values as a list.
        values = []
        current = self.head
        while current is not None:
            values.append(current.value)
            current = current.next
        return values
>> chain = $f()
>> chain.append($int1)
>> chain.append($int2)
>> chain.prepend($int3)
>> assert chain.to_list() == [$int3, $int1, $int2]
%% Tree|TreeNode|BinaryTree
class $f:
    : A binary search tree.

    def __init__(self, value: int) -> None:
        self.value = value
        self.left = None
        self.right = None

    def insert(self, value: int) -> None:
        : Insert a value into the tree.
        if value < self.value:
            if self.left is None:
                self.left = $f(value)
            else:
                self.left.insert(value)
        elif self.right is None:
            self.right = $f(value)
        else:
            self.right.insert(value)

    def contains(self, value: int) -> bool:
        : Return True if the value is in the tree.
        if value == self.value:
            return True
        child = self.left if value < self.value else self.right
        return child is not None and child.contains(value)

    def values(self) -> list[int]:
        : Return all values in increasing order.
        left = self.left.values() if self.left else []
        right = self.right.values() if self.right else []
        return left + [self.value] + right
>> tree = $f(5)
>> tree.insert($n1)
>> tree.insert($n2)
>> assert tree.contains($n1)
>> assert tree.values() == sorted([5, $n1, $n2])
%% Inventory|Stock|Warehouse
class $f:
    : The quantities of products in stock.

    def __init__(self) -> None:
        self.items = {}

    def add(self, name: str, quantity: int = 1) -> None:
        : Add some quantity of a product.
        self.items[name] = self.items.get(name, 0) + quantity

    def remove(self, name: str, quantity: int = 1) -> None:
        : Remove some quantity of a product.
        if self.items.get(name, 0) < quantity:
            raise ValueError(f"not enough {name}")
        self.items[name] -= quantity

    def total(self) -> int:
        : Return the total quantity of all products.
        return sum(self.items.values())
>> stock = $f()
>> stock.add($word1, $int1)
>> stock.remove($word1)
>> assert stock.total() == $int1 - 1
%% ShoppingCart|Cart|Basket
class $f:
    : A shopping cart with prices.

    def __init__(self) -> None:
        self.prices = []

    def add(self, name: str, price: float) -> None:
        : Add an item with its price.
        self.prices.append((name, price))

    def total(self) -> float:
        : Return the total price.
        return sum(price for name, price in self.prices)

    def __len__(self) -> int:
        return len(self.prices)
>> cart = $f()
>> cart.add($word1, $int1)
>> cart.add($word2, $int2)
>> assert cart.total() == $int1 + $int2
>> assert len(cart) == 2
%% Student|Pupil|Learner
class $f:
    : A student with grades.

    def __init__(self, name: str) -> None:
        self.name = name
        self.grades = []

    def add_grade(self, grade: int) -> None:
        : Add a grade.
        self.grades.append(grade)

    def average(self) -> float:
        : Return the average grade.
        if not self.grades:
            return 0.0
        return sum(self.grades) / len(self.grades)

    def has_passed(self, minimum: float = 5) -> bool:
        : Return True if the average is at least the minimum.
        return self.average() >= minimum
>> student = $f($person1)
>> student.add_grade($n1)
>> assert student.average() == $n1
%% Shape|Figure|Form
class $f(ABC):
    : A shape with an area.

    @abstractmethod
    def area(self) -> float:
        : Return the area.
        raise NotImplementedError


class Square($f):
    def __init__(self, side: float) -> None:
        self.side = side

    def area(self) -> float:
        return self.side ** 2


class Rectangle($f):
    def __init__(self, width: float, height: float) -> None:
        self.width = width
        self.height = height

    def area(self) -> float:
        return self.width * self.height
>> assert Square($n1).area() == $n1 ** 2
>> assert Rectangle($n1, $n2).area() == $n1 * $n2
%% Animal|Pet|Creature
class $f:
    : An animal with a name.

    def __init__(self, name: str) -> None:
        self.name = name

    def speak(self) -> str:
        : Return the sound of the animal.
        return "..."


class Dog($f):
    def speak(self) -> str:
        return f"{self.name} says Woof"


class Cat($f):
    def speak(self) -> str:
        return f"{self.name} says Meow"
>> dog = Dog($person1)
>> assert dog.speak().endswith("Woof")
%% Temperature|Thermometer|Heat
class $f:
    : A temperature in celsius.

    def __init__(self, celsius: float) -> None:
        self.celsius = celsius

    @property
    def fahrenheit(self) -> float:
        : Return the temperature in fahrenheit.
        return self.celsius * 9 / 5 + 32

    @property
    def kelvin(self) -> float:
        : Return the temperature in kelvin.
        return self.celsius + 273.15

    @classmethod
    def from_fahrenheit(cls, fahrenheit: float) -> "$f":
        : Create a temperature from fahrenheit.
        return cls((fahrenheit - 32) * 5 / 9)
>> assert $f(100).fahrenheit == 212
>> assert $f(0).fahrenheit == 32
%% Fraction|Ratio|Rational
class $f:
    : A fraction in lowest terms.

    def __init__(self, top: int, bottom: int) -> None:
        if bottom == 0:
            raise ValueError("bottom must not be zero")
        divisor = math.gcd(top, bottom)
        self.top = top // divisor
        self.bottom = bottom // divisor

    def __add__(self, other: "$f") -> "$f":
        top = self.top * other.bottom + other.top * self.bottom
        return $f(top, self.bottom * other.bottom)

    def __mul__(self, other: "$f") -> "$f":
        return $f(self.top * other.top, self.bottom * other.bottom)

    def __repr__(self) -> str:
        return f"$f({self.top}, {self.bottom})"
>> assert repr($f(2, 4)) == "$f(1, 2)"
%% Matrix|Grid|Table
class $f:
    : A matrix of numbers.

    def __init__(self, rows: list[list[int]]) -> None:
        self.rows = rows

    def __getitem__(self, index: int) -> list[int]:
        return self.rows[index]

    def __add__(self, other: "$f") -> "$f":
        rows = []
        for a, b in zip(self.rows, other.rows):
            rows.append([x + y for x, y in zip(a, b)])
        return $f(rows)

    def transpose(self) -> "$f":
        : Return the transposed matrix.
        return $f([list(column) for column in zip(*self.rows)])
>> matrix = $f([[1, 2], [3, 4]])
>> assert matrix.transpose().rows == [[1, 3], [2, 4]]
%% Timer|Stopwatch|Clock
class $f:
    : Measure the time of a block of code.

    def __enter__(self) -> "$f":
        self.start = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = time.perf_counter() - self.start
>> with $f() as timer:
>>     pass
>> assert timer.seconds >= 0
%% Place|Rank|Stage
class $f(Enum):
    : The three places.

    FIRST = 1
    SECOND = 2
    THIRD = 3

    def next(self) -> "$f":
        : Return the place that follows.
        return $f(self.value % 3 + 1)
>> assert $f.FIRST.next() == $f.SECOND
%% TodoList|TaskList|Checklist
class $f:
    : A list of tasks.

    def __init__(self) -> None:
        self.tasks = []
        self.done = set()

    def add(self, task: str) -> None:
        : Add a task to the list.
        self.tasks.append(task)

    def finish(self, task: str) -> None:
        : Mark a task as done.
        if task not in self.tasks:
            raise ValueError(f"no such task: {task}")
        self.done.add(task)

    def open_tasks(self) -> list[str]:
        : Return the tasks that are not done.
        return [task for task in self.tasks if task not in self.done]
>> todo = $f()
>> todo.add($word1)
>> todo.finish($word1)
>> assert todo.open_tasks() == []
%% Graph|Network|RoadMap
class $f:
    : A graph of nodes and edges.

    def __init__(self) -> None:
        self.edges = {}

    def add_edge(self, start: str, end: str) -> None:
        : Connect two nodes.
        self.edges.setdefault(start, []).append(end)
        self.edges.setdefault(end, []).append(start)

    def neighbors(self, node: str) -> list[str]:
        : Return the neighbors of a node.
        return self.edges.get(node, [])

    def reachable(self, start: str) -> set[str]:
        : Return all nodes that can be reached.
        seen = {start}
        queue = [start]
        while queue:
            node = queue.pop(0)
            for neighbor in self.neighbors(node):
                if neighbor not in seen:
                    seen.add(neighbor)
                    queue.append(neighbor)
        return seen
>> graph = $f()
>> graph.add_edge("a", "b")
>> assert graph.reachable("a") == {"a", "b"}
%% Cache|LimitedCache|Memory
class $f:
    : A cache that forgets its oldest entry.

    def __init__(self, size: int) -> None:
        self.size = size
        self.entries = {}

    def get(self, key: str, default: Any = None) -> Any:
        : Return the value of the key, or the default.
        return self.entries.get(key, default)

    def put(self, key: str, value: Any) -> None:
        : Store a value under the key.
        if len(self.entries) >= self.size:
            oldest = next(iter(self.entries))
            del self.entries[oldest]
        self.entries[key] = value
>> cache = $f($small1)
>> cache.put($word1, $int1)
>> assert cache.get($word1) == $int1
"""
