"""Class families (format: `snippet_template`)."""

CLASSES = """
%% Stack|ItemStack|SimpleStack
class $f:
    : A last in, first out stack. | A stack of items.

    def __init__(self) -> None:
        self.items = []

    def push(self, item: int) -> None:
        : Put an item on top of the stack.
        self.items.append(item)

    def pop(self) -> int:
        : Remove and return the item on top.
        if not self.items:
            raise IndexError("the stack is empty")
        return self.items.pop()

    def peek(self) -> int:
        : Return the item on top without removing it.
        return self.items[-1]

    def is_empty(self) -> bool:
        : Return True if there are no items.
        return not self.items

    def __len__(self) -> int:
        return len(self.items)
>> stack = $f()
>> stack.push($int1)
>> stack.push($int2)
>> assert stack.pop() == $int2
>> assert len(stack) == 1
%% Queue|SimpleQueue|WaitingLine
class $f:
    : A first in, first out queue.

    def __init__(self) -> None:
        self.items = deque()

    def enqueue(self, item: str) -> None:
        : Add an item at the end of the queue.
        self.items.append(item)

    def dequeue(self) -> str:
        : Remove and return the first item.
        if not self.items:
            raise IndexError("the queue is empty")
        return self.items.popleft()

    def __len__(self) -> int:
        return len(self.items)
>> queue = $f()
>> queue.enqueue($word1)
>> assert queue.dequeue() == $word1
>> assert len(queue) == 0
%% BankAccount|Account|SavingsAccount
class $f:
    : A bank account with a balance.

    def __init__(self, owner: str, balance: float = 0) -> None:
        self.owner = owner
        self.balance = balance

    def deposit(self, amount: float) -> None:
        : Add the amount to the balance.
        if amount <= 0:
            raise ValueError("amount must be positive")
        self.balance += amount

    def withdraw(self, amount: float) -> None:
        : Take the amount from the balance.
        if amount > self.balance:
            raise ValueError("not enough money")
        self.balance -= amount

    def __repr__(self) -> str:
        return f"$f({self.owner!r}, {self.balance})"
>> account = $f($person1)
>> account.deposit($int1)
>> assert account.balance == $int1
%% Counter|ClickCounter|Tally
class $f:
    : A counter that starts at zero.

    def __init__(self) -> None:
        self.count = 0

    def increment(self) -> None:
        : Add one to the count.
        self.count += 1

    def decrement(self) -> None:
        : Subtract one from the count.
        self.count -= 1

    def reset(self) -> None:
        : Set the count to zero.
        self.count = 0
>> counter = $f()
>> counter.increment()
>> counter.increment()
>> assert counter.count == 2
%% Circle|Disk|RoundShape
class $f:
    : A circle with a radius.

    def __init__(self, radius: float) -> None:
        self.radius = radius

    def area(self) -> float:
        : Return the area of the circle.
        return math.pi * self.radius ** 2

    def circumference(self) -> float:
        : Return the circumference of the circle.
        return 2 * math.pi * self.radius
>> circle = $f($int1)
>> assert circle.radius == $int1
%% Rectangle|Box|Field
class $f:
    : A rectangle with a width and a height.

    def __init__(self, width: float, height: float) -> None:
        self.width = width
        self.height = height

    @property
    def area(self) -> float:
        : Return the area.
        return self.width * self.height

    @property
    def perimeter(self) -> float:
        : Return the perimeter.
        return 2 * (self.width + self.height)

    def is_square(self) -> bool:
        : Return True if all sides are equal.
        return self.width == self.height
>> shape = $f($small1, $small1)
>> assert shape.is_square()
>> assert shape.perimeter == 4 * $small1
%% Point|Vector|Position
class $f:
    : A point in the plane.

    def __init__(self, x: int, y: int) -> None:
        self.x = x
        self.y = y

    def __add__(self, other: "$f") -> "$f":
        return $f(self.x + other.x, self.y + other.y)

    def __sub__(self, other: "$f") -> "$f":
        return $f(self.x - other.x, self.y - other.y)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, $f) and self.x == other.x and self.y == other.y

    def __repr__(self) -> str:
        return f"$f({self.x}, {self.y})"
>> total = $f($int1, $int2) + $f($int3, $int4)
>> assert total.x == $int1 + $int3
>> assert total.y == $int2 + $int4
%% Average|RunningAverage|MeanTracker
class $f:
    : The average of the numbers seen so far.

    def __init__(self) -> None:
        self.total = 0
        self.count = 0

    def add(self, number: float) -> None:
        : Add a number.
        self.total += number
        self.count += 1

    @property
    def mean(self) -> float:
        : Return the average of all numbers.
        if self.count == 0:
            return 0.0
        return self.total / self.count
>> average = $f()
>> average.add($int1)
>> assert average.mean == $int1
%% Countdown|DownCounter|Steps
class $f:
    : Count down from a number to one.

    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        current = self.start
        while current > 0:
            yield current
            current -= 1
>> assert list($f(3)) == [3, 2, 1]
%% Dice|Die|RandomDice
class $f:
    : A die with some number of sides.

    def __init__(self, sides: int = 6) -> None:
        self.sides = sides
        self.last = None

    def roll(self) -> int:
        : Roll the die and return the number.
        self.last = random.randint(1, self.sides)
        return self.last
>> die = $f($small1)
>> assert 1 <= die.roll() <= $small1
%% Light|Lamp|Switch
class $f:
    : A light that is on or off.

    def __init__(self) -> None:
        self.is_on = False

    def turn_on(self) -> None:
        : Turn the light on.
        self.is_on = True

    def turn_off(self) -> None:
        : Turn the light off.
        self.is_on = False

    def toggle(self) -> None:
        : Switch between on and off.
        self.is_on = not self.is_on
>> lamp = $f()
>> lamp.toggle()
>> assert lamp.is_on
%% Car|Vehicle|Truck
class $f:
    : A car that can speed up and slow down.

    def __init__(self, brand: str, top_speed: int) -> None:
        self.brand = brand
        self.top_speed = top_speed
        self.speed = 0

    def accelerate(self, amount: int) -> None:
        : Increase the speed up to the top speed.
        self.speed = min(self.speed + amount, self.top_speed)

    def brake(self, amount: int) -> None:
        : Decrease the speed.
        self.speed = max(self.speed - amount, 0)

    def __str__(self) -> str:
        return f"{self.brand} at {self.speed}"
>> car = $f($person1, 100)
>> car.accelerate($int1)
>> assert car.speed == $int1
%% Person|User|Contact
class $f:
    : A person with a name and an age.

    def __init__(self, name: str, age: int) -> None:
        self.name = name
        self.age = age

    def greet(self) -> str:
        : Return a greeting.
        return f"Hello, I am {self.name}"

    def is_adult(self) -> bool:
        : Return True if the age is at least 18.
        return self.age >= 18

    def have_birthday(self) -> None:
        : Make the person one year older.
        self.age += 1
>> person = $f($person1, $int1)
>> person.have_birthday()
>> assert person.age == $int1 + 1
%% PhoneBook|AddressBook|Contacts
class $f:
    : Names and phone numbers.

    def __init__(self) -> None:
        self.numbers = {}

    def add(self, name: str, number: str) -> None:
        : Add a name with its number.
        self.numbers[name] = number

    def find(self, name: str) -> str | None:
        : Return the number of the name, or None.
        return self.numbers.get(name)

    def names(self) -> list[str]:
        : Return all names in order.
        return sorted(self.numbers)
>> book = $f()
>> book.add($person1, "123")
>> assert book.find($person1) == "123"
%% Money|Amount|Price
@dataclass(frozen=True)
class $f:
    : An amount of money in a currency.

    amount: int
    currency: str = "EUR"

    def __add__(self, other: "$f") -> "$f":
        if self.currency != other.currency:
            raise ValueError("different currencies")
        return $f(self.amount + other.amount, self.currency)
>> assert ($f($int1) + $f($int2)).amount == $int1 + $int2
%% Interval|Span|Range
class $f:
    : The numbers from low to high.

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high

    def __contains__(self, value: int) -> bool:
        return self.low <= value <= self.high

    def length(self) -> int:
        : Return the length of the interval.
        return self.high - self.low

    def overlaps(self, other: "$f") -> bool:
        : Return True if both have a number in common.
        return self.low <= other.high and other.low <= self.high
>> assert $n1 in $f(0, 9)
>> assert $f(0, 5).length() == 5
"""
