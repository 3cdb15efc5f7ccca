"""Function families on numbers (format: `snippet_template`)."""

NUMBERS = """
%% add|add_numbers|plus ; int int
def $f($a: int, $b: int) -> int:
    : Return the sum of $a and $b. | Add two numbers.
    return $a + $b
%% subtract|minus|*difference ; int int
def $f($a: int, $b: int) -> int:
    : Return $a minus $b. | Subtract $b from $a.
    return $a - $b
%% multiply|times|*product ; int int
def $f($a: int, $b: int) -> int:
    : Return the product of $a and $b. | Multiply two numbers.
    return $a * $b
--
    $result = $a * $b
    return $result
%% divide|safe_divide|*quotient ; int small
def $f($a: float, $b: float) -> float:
    : Divide $a by $b. | Return $a divided by $b.
    if $b == 0:
        raise ValueError("cannot divide by zero")
    return $a / $b
%% square|squared ; int
def $f($n: int) -> int:
    : Return the square of $n.
    return $n * $n
--
    return $n ** 2
%% cube|cubed ; int
def $f($n: int) -> int:
    : Return the cube of $n.
    return $n ** 3
--
    return $n * $n * $n
%% double|twice ; int
def $f($n: int) -> int:
    : Return twice $n.
    return 2 * $n
%% half|*half ; int
def $f($n: float) -> float:
    : Return half of $n.
    return $n / 2
%% is_even|check_even ; int
def $f($n: int) -> bool:
    : Return True if $n is even. | Check whether $n is even.
    return $n % 2 == 0
%% is_odd|check_odd ; int
def $f($n: int) -> bool:
    : Return True if $n is odd.
    return $n % 2 == 1
--
    return $n % 2 != 0
%% is_divisible|divides_evenly|is_multiple ; int small
def $f($n: int, divisor: int) -> bool:
    : Return True if $n is divisible by the divisor.
    return $n % divisor == 0
%% absolute_value|magnitude|*absolute ; int
def $f($n: int) -> int:
    : Return the absolute value of $n.
    if $n < 0:
        return -$n
    return $n
--
    return $n if $n >= 0 else -$n
--
    return abs($n)
%% sign|sign_of|*sign ; int
def $f($n: int) -> int:
    : Return 1, 0 or -1, the sign of $n.
    if $n > 0:
        return 1
    if $n < 0:
        return -1
    return 0
%% maximum|larger|max_of_two ; int int
def $f($a: int, $b: int) -> int:
    : Return the larger of $a and $b.
    if $a > $b:
        return $a
    return $b
--
    return $a if $a > $b else $b
--
    return max($a, $b)
%% minimum_of_two|smaller|min_of_two ; int int
def $f($a: int, $b: int) -> int:
    : Return the smaller of $a and $b.
    if $a < $b:
        return $a
    return $b
--
    return min($a, $b)
%% max_of_three|largest_of_three ; int int int
def $f(a: int, b: int, c: int) -> int:
    : Return the largest of three numbers.
    if a >= b and a >= c:
        return a
    if b >= c:
        return b
    return c
--
    return max(a, b, c)
%% clamp|limit_value|clip ; int n int
def $f(value: int, $low: int, $high: int) -> int:
    : Return the value limited to the range from $low to $high.
    if value < $low:
        return $low
    if value > $high:
        return $high
    return value
%% average_of_two|midpoint_value|*middle ; int int
def $f($a: float, $b: float) -> float:
    : Return the average of $a and $b.
    return ($a + $b) / 2
%% is_leap_year|leap_year ; year
def $f(year: int) -> bool:
    : Return True if the year is a leap year.
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
--
    if year % 400 == 0:
        return True
    if year % 100 == 0:
        return False
    return year % 4 == 0
%% *percentage|percent_of ; n int
def $f(part: float, whole: float) -> float:
    : Return the part as a percentage of the whole.
    return 100 * part / whole
--
    if whole == 0:
        return 0.0
    return part / whole * 100
%% percent_change|*relative_change ; money money
def $f(old: float, new: float) -> float:
    : Return the change from old to new in percent.
    return (new - old) / old * 100
%% apply_discount|*discounted_price|price_after_discount ; money int
def $f($price: float, percent: float) -> float:
    : Return the $price after a discount in percent.
    discount = $price * percent / 100
    return $price - discount
--
    return $price * (1 - percent / 100)
%% add_tax|*price_with_tax|with_tax ; money rate
def $f($price: float, tax_rate: float) -> float:
    : Return the $price with tax added.
    tax = $price * tax_rate
    return $price + tax
--
    return $price * (1 + tax_rate)
%% simple_interest|*simple_interest ; money rate n
def $f(principal: float, $rate: float, $years: int) -> float:
    : Return the simple interest on the principal.
    return principal * $rate * $years
%% compound_interest|*balance_after ; money rate n
def $f(principal: float, $rate: float, $years: int) -> float:
    : Return the balance after compound interest.
    return principal * (1 + $rate) ** $years
--
    balance = principal
    for _ in range($years):
        balance += balance * $rate
    return balance
%% split_bill|*share|share_cost ; money small
def $f(bill: float, people: int) -> float:
    : Return what each person pays.
    if people <= 0:
        raise ValueError("people must be positive")
    return bill / people
%% *tip|tip_amount ; money int
def $f(bill: float, percent: float) -> float:
    : Return the tip for the bill.
    return bill * percent / 100
%% average_speed|*speed ; int small
def $f(distance: float, hours: float) -> float:
    : Return the average speed over a distance.
    return distance / hours
%% *bmi|body_mass_index ; money small
def $f(weight: float, height: float) -> float:
    : Return the body mass index.
    return weight / height ** 2
%% letter_grade|grade_letter|*grade ; money
def $f(score: int) -> str:
    : Return the letter grade for a score.
    if score >= 90:
        return "A"
    if score >= 80:
        return "B"
    if score >= 70:
        return "C"
    return "F"
%% roll_dice|throw_dice|roll
def $f($count: int, sides: int = 6) -> list[int]:
    : Roll the dice and return the numbers.
    return [random.randint(1, sides) for _ in range($count)]
"""
