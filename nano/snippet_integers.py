"""Function families on whole numbers (format: `snippet_template`)."""

INTEGERS = """
%% factorial|*factorial ; n
def $f($n: int) -> int:
    : Return the factorial of $n.
    if $n <= 1:
        return 1
    return $n * $f($n - 1)
--
    $result = 1
    for $i in range(2, $n + 1):
        $result *= $i
    return $result
--
    if $n == 0:  #~ Base case.
        return 1
    return $n * $f($n - 1)
%% fibonacci|fib|*fibonacci ; n
def $f(n: int) -> int:
    : Return the n-th Fibonacci number.
    if n < 2:
        return n
    return $f(n - 1) + $f(n - 2)
--
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a
%% fibonacci_list|fibonacci_sequence|first_fibonacci ; n
def $f($count: int) -> list[int]:
    : Return the first Fibonacci numbers as a list.
    sequence = []
    a, b = 0, 1
    while len(sequence) < $count:
        sequence.append(a)
        a, b = b, a + b
    return sequence
%% gcd|greatest_common_divisor|*gcd ; int int
def $f($a: int, $b: int) -> int:
    : Return the greatest common divisor of $a and $b.
    while $b:
        $a, $b = $b, $a % $b
    return $a
--
    if $b == 0:
        return $a
    return $f($b, $a % $b)
%% lcm|least_common_multiple|*lcm ; int int
def $f($a: int, $b: int) -> int:
    : Return the least common multiple of $a and $b.
    return $a * $b // math.gcd($a, $b)
%% power|raise_to_power|*power ; small n
def $f(base: int, exponent: int) -> int:
    : Return the base raised to the exponent.
    if exponent == 0:
        return 1
    return base * $f(base, exponent - 1)
--
    $result = 1
    for _ in range(exponent):
        $result *= base
    return $result
--
    return base ** exponent
%% is_prime|check_prime ; int
def $f($n: int) -> bool:
    : Return True if $n is a prime number. | Check whether $n is prime.
    if $n < 2:
        return False
    for divisor in range(2, int($n ** 0.5) + 1):
        if $n % divisor == 0:
            return False
    return True
--
    if $n < 2:
        return False
    divisor = 2
    while divisor * divisor <= $n:
        if $n % divisor == 0:
            return False
        divisor += 1
    return True
--
    if $n < 2:
        return False
    return all($n % $i != 0 for $i in range(2, $n))
%% primes_up_to|list_primes|sieve ; int
def $f($limit: int) -> list[int]:
    : Return all prime numbers up to $limit.
    primes = []
    for $n in range(2, $limit + 1):
        if all($n % prime != 0 for prime in primes):
            primes.append($n)
    return primes
--
    is_prime = [True] * ($limit + 1)
    primes = []
    for $n in range(2, $limit + 1):
        if is_prime[$n]:
            primes.append($n)
            for multiple in range($n * $n, $limit + 1, $n):
                is_prime[multiple] = False
    return primes
%% prime_factors|factorize|*prime_factors ; int
def $f($n: int) -> list[int]:
    : Return the prime factors of $n.
    factors = []
    divisor = 2
    while $n > 1:
        while $n % divisor == 0:
            factors.append(divisor)
            $n //= divisor
        divisor += 1
    return factors
%% divisors|*divisors|find_divisors ; int
def $f($n: int) -> list[int]:
    : Return all divisors of $n.
    return [$i for $i in range(1, $n + 1) if $n % $i == 0]
--
    $result = []
    for $i in range(1, $n + 1):
        if $n % $i == 0:
            $result.append($i)
    return $result
%% is_perfect|is_perfect_number ; int
def $f($n: int) -> bool:
    : Return True if $n equals the sum of its proper divisors.
    $total = sum($i for $i in range(1, $n) if $n % $i == 0)
    return $total == $n
%% sum_of_digits|digit_sum|add_digits ; int
def $f($n: int) -> int:
    : Return the sum of the digits of $n.
    $total = 0
    while $n > 0:
        $total += $n % 10
        $n //= 10
    return $total
--
    return sum(int(digit) for digit in str($n))
%% count_digits|number_of_digits ; int
def $f($n: int) -> int:
    : Return how many digits $n has.
    return len(str($n))
--
    $count = 1
    while $n >= 10:
        $n //= 10
        $count += 1
    return $count
%% reverse_number|reversed_digits ; int
def $f($n: int) -> int:
    : Return $n with its digits in reverse order.
    return int(str($n)[::-1])
--
    $result = 0
    while $n > 0:
        $result = $result * 10 + $n % 10
        $n //= 10
    return $result
%% sum_to|sum_up_to|triangle_number ; int
def $f($n: int) -> int:
    : Return the sum of the numbers from 1 to $n.
    return $n * ($n + 1) // 2
--
    return sum(range(1, $n + 1))
--
    $total = 0
    for $i in range(1, $n + 1):
        $total += $i
    return $total
%% sum_of_squares|*square_sum ; n
def $f($n: int) -> int:
    : Return the sum of the squares from 1 to $n.
    return sum($i * $i for $i in range(1, $n + 1))
--
    $total = 0
    for $i in range(1, $n + 1):
        $total += $i ** 2
    return $total
%% collatz|collatz_steps|count_collatz_steps ; int
def $f($n: int) -> int:
    : Return the number of Collatz steps from $n to 1.
    steps = 0
    while $n != 1:
        if $n % 2 == 0:
            $n //= 2
        else:
            $n = 3 * $n + 1
        steps += 1
    return steps
%% fizzbuzz|fizz_buzz ; int
def $f($n: int) -> str:
    : Return Fizz, Buzz, FizzBuzz or the number as text.
    if $n % 15 == 0:
        return "FizzBuzz"
    if $n % 3 == 0:
        return "Fizz"
    if $n % 5 == 0:
        return "Buzz"
    return str($n)
%% print_fizzbuzz|show_fizzbuzz
def $f($limit: int) -> None:
    : Print the FizzBuzz numbers up to $limit.
    for $i in range(1, $limit + 1):
        if $i % 15 == 0:
            print("FizzBuzz")
        elif $i % 3 == 0:
            print("Fizz")
        elif $i % 5 == 0:
            print("Buzz")
        else:
            print($i)
%% countdown|count_down ; n
def $f(start: int) -> list[int]:
    : Return the numbers from start down to 1.
    return list(range(start, 0, -1))
--
    $result = []
    while start > 0:
        $result.append(start)
        start -= 1
    return $result
%% multiplication_table|times_table ; n
def $f($n: int) -> list[int]:
    : Return the first ten multiples of $n.
    return [$n * $i for $i in range(1, 11)]
%% to_binary|binary_string ; int
def $f($n: int) -> str:
    : Return $n in binary as a string.
    if $n == 0:
        return "0"
    $digits = ""
    while $n > 0:
        $digits = str($n % 2) + $digits
        $n //= 2
    return $digits
--
    return format($n, "b")
%% from_binary|binary_to_int|parse_binary ; binary
def $f($digits: str) -> int:
    : Return the number written in binary digits.
    $result = 0
    for digit in $digits:
        $result = $result * 2 + int(digit)
    return $result
--
    return int($digits, 2)
"""
