"""Function families on text (format: `snippet_template`)."""

TEXT = """
%% reverse|reverse_string|reversed_text ; word
def $f($text: str) -> str:
    : Return the $text in reverse order. | Reverse the $text.
    return $text[::-1]
--
    $result = ""
    for $char in $text:
        $result = $char + $result
    return $result
--
    if $text == "":
        return ""
    return $f($text[1:]) + $text[0]
%% is_palindrome|check_palindrome ; palindrome
def $f($text: str) -> bool:
    : Return True if the $text reads the same backwards.
    return $text == $text[::-1]
--
    left = 0
    right = len($text) - 1
    while left < right:
        if $text[left] != $text[right]:
            return False
        left += 1
        right -= 1
    return True
--
    if len($text) < 2:
        return True
    if $text[0] != $text[-1]:
        return False
    return $f($text[1:-1])
%% count_vowels|number_of_vowels|vowel_count ; word
VOWELS = "aeiou"
def $f($text: str) -> int:
    : Return the number of vowels in the $text. | Count the vowels in the $text.
    $count = 0
    for $char in $text.lower():
        if $char in VOWELS:
            $count += 1
    return $count
--
    return sum(1 for $char in $text.lower() if $char in VOWELS)
%% remove_vowels|without_vowels ; word
VOWELS = "aeiou"
def $f($text: str) -> str:
    : Return the $text without vowels.
    return "".join($char for $char in $text if $char.lower() not in VOWELS)
--
    $result = ""
    for $char in $text:
        if $char.lower() not in VOWELS:
            $result += $char
    return $result
%% count_words|word_count|number_of_words ; sentence
def $f($text: str) -> int:
    : Return the number of words in the $text. | Count the words in the $text.
    return len($text.split())
--
    words = $text.split()
    return len(words)
%% count_char|count_letter|occurrences ; word char
def $f(text: str, letter: str) -> int:
    : Return how often the letter occurs in the text.
    $count = 0
    for $char in text:
        if $char == letter:
            $count += 1
    return $count
--
    return text.count(letter)
%% capitalize_words|title_case|capitalize_all ; sentence
def $f($text: str) -> str:
    : Return the $text with every word capitalized.
    return " ".join(word.capitalize() for word in $text.split())
--
    words = []
    for word in $text.split():
        words.append(word.capitalize())
    return " ".join(words)
%% initials|*initials ; sentence
def $f(name: str) -> str:
    : Return the initials of the name.
    return "".join(part[0].upper() for part in name.split())
--
    $result = ""
    for part in name.split():
        $result += part[0].upper()
    return $result
%% shout|to_upper|upper_case ; word
def $f($text: str) -> str:
    : Return the $text in upper case.
    return $text.upper()
%% greet|say_hello|greeting ; person
def $f(name: str) -> str:
    : Return a greeting for the name.
    return f"Hello, {name}!"
--
    return "Hello, " + name + "!"
%% farewell|say_goodbye ; person
def $f(name: str) -> str:
    : Return a farewell for the name.
    return f"Goodbye, {name}!"
%% full_name|join_names|*full_name ; person person
def $f(first_name: str, last_name: str) -> str:
    : Return the full name.
    return f"{first_name} {last_name}"
--
    return first_name + " " + last_name
%% repeat|repeat_text ; word small
def $f($text: str, times: int) -> str:
    : Return the $text repeated several times.
    return $text * times
--
    $result = ""
    for _ in range(times):
        $result += $text
    return $result
%% remove_spaces|strip_spaces ; sentence
def $f($text: str) -> str:
    : Return the $text without spaces.
    return $text.replace(" ", "")
--
    return "".join($char for $char in $text if $char != " ")
%% slugify|make_slug|to_slug ; sentence
def $f(title: str) -> str:
    : Return the title in lower case with dashes between words.
    return "-".join(title.lower().split())
--
    words = title.lower().split()
    return "-".join(words)
%% to_snake_case|snake_case ; sentence
def $f($text: str) -> str:
    : Return the $text in snake case.
    return "_".join($text.lower().split())
--
    return $text.lower().replace(" ", "_")
%% to_camel_case|camel_case ; sentence
def $f($text: str) -> str:
    : Return the $text in camel case.
    first, *rest = $text.split()
    return first.lower() + "".join(word.title() for word in rest)
%% truncate|shorten|cut_text ; word small
def $f($text: str, length: int) -> str:
    : Return at most length characters of the $text.
    if len($text) <= length:
        return $text
    return $text[:length]
--
    return $text[:length]
%% letter_counts|char_frequency|count_letters ; word
def $f($text: str) -> dict[str, int]:
    : Return how often each character occurs. | Count the characters of the $text.
    $counts = {}
    for $char in $text:
        $counts[$char] = $counts.get($char, 0) + 1
    return $counts
--
    $counts = {}
    for $char in $text:
        if $char in $counts:
            $counts[$char] += 1
        else:
            $counts[$char] = 1
    return $counts
%% most_common_letter|most_frequent_char ; word
def $f($text: str) -> str:
    : Return the most common character of the $text.
    $counts = Counter($text)
    return $counts.most_common(1)[0][0]
--
    return max($text, key=$text.count)
%% is_anagram|are_anagrams ; word word
def $f(first: str, second: str) -> bool:
    : Return True if both words have the same letters.
    return sorted(first) == sorted(second)
--
    if len(first) != len(second):
        return False
    return Counter(first) == Counter(second)
%% has_unique_letters|all_unique|is_isogram ; word
def $f($text: str) -> bool:
    : Return True if no character occurs twice.
    return len(set($text)) == len($text)
--
    $seen = set()
    for $char in $text:
        if $char in $seen:
            return False
        $seen.add($char)
    return True
%% remove_duplicate_letters|unique_letters ; word
def $f($text: str) -> str:
    : Return the $text with repeated characters removed.
    $result = ""
    for $char in $text:
        if $char not in $result:
            $result += $char
    return $result
%% caesar|caesar_cipher|shift_letters ; word small
def $f($text: str, shift: int) -> str:
    : Return the $text with every letter shifted.
    $result = ""
    for $char in $text:
        code = (ord($char) - ord("a") + shift) % 26
        $result += chr(code + ord("a"))
    return $result
%% is_numeric|only_digits|is_number ; digits
def $f($text: str) -> bool:
    : Return True if the $text contains only digits.
    return all($char in "0123456789" for $char in $text)
--
    for $char in $text:
        if not $char.isdigit():
            return False
    return True
%% sum_digits_in_text|digits_total ; digits
def $f($text: str) -> int:
    : Return the sum of all digits in the $text.
    $total = 0
    for $char in $text:
        if $char.isdigit():
            $total += int($char)
    return $total
--
    return sum(int($char) for $char in $text if $char.isdigit())
%% is_email|is_valid_email|looks_like_email ; email
def $f(address: str) -> bool:
    : Return True if the address looks like an email address.
    if address.count("@") != 1:
        return False
    name, domain = address.split("@")
    return name != "" and "." in domain
--
    return re.fullmatch(r"[\\w.]+@[\\w.]+\\.[a-z]+", address) is not None
%% email_domain|*domain ; email
def $f(address: str) -> str:
    : Return the part of the address after the at sign.
    return address.split("@")[1]
--
    name, domain = address.split("@")
    return domain
%% user_name|*user_name ; email
def $f(address: str) -> str:
    : Return the part of the address before the at sign.
    return address.split("@")[0]
%% mask|mask_text|hide_text ; word
def $f(secret: str) -> str:
    : Return the secret with all but its last two characters hidden.
    hidden = "*" * (len(secret) - 2)
    return hidden + secret[-2:]
%% average_word_length|mean_word_length ; sentence
def $f($text: str) -> float:
    : Return the average length of the words.
    words = $text.split()
    if not words:
        return 0.0
    return sum(len(word) for word in words) / len(words)
%% word_frequencies|count_each_word|word_counts ; sentence
def $f($text: str) -> dict[str, int]:
    : Return how often each word occurs in the $text.
    $counts = {}
    for word in $text.lower().split():
        $counts[word] = $counts.get(word, 0) + 1
    return $counts
--
    $counts = defaultdict(int)
    for word in $text.lower().split():
        $counts[word] += 1
    return dict($counts)
--
    return dict(Counter($text.lower().split()))
%% number_lines|add_line_numbers ; words
def $f(lines: list[str]) -> list[str]:
    : Return the lines with their numbers in front.
    return [f"{number}: {line}" for number, line in enumerate(lines, start=1)]
--
    $result = []
    for number, line in enumerate(lines, start=1):
        $result.append(f"{number}: {line}")
    return $result
%% split_fields|parse_row|parse_csv_line ; csv
def $f($line: str) -> list[str]:
    : Return the fields of a line separated by commas.
    return [field.strip() for field in $line.split(",")]
%% parse_time|minutes_since_midnight|to_minutes ; time
def $f(text: str) -> int:
    : Return the minutes since midnight for a time such as 12:30.
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)
%% find_numbers|extract_numbers ; time
def $f($text: str) -> list[int]:
    : Return all numbers found in the $text.
    return [int(match) for match in re.findall(r"\\d+", $text)]
%% format_price|price_text|show_price ; money
def $f($price: float) -> str:
    : Return the $price as text with two decimals.
    return f"${$price:.2f}"
%% parse_int|to_int|safe_int ; digits
def $f($text: str, $default: int = 0) -> int:
    : Return the $text as an integer, or the $default.
    try:
        return int($text)
    except ValueError:
        return $default
%% is_yes|parse_bool|to_bool ; word
def $f(answer: str) -> bool:
    : Return True if the answer means yes.
    return answer.strip().lower() in ("y", "yes", "true")
%% center_text|make_title ; word
def $f($text: str, width: int = 20) -> str:
    : Return the $text centered in a line.
    return $text.center(width, "-")
%% replace_word|swap_word ; sentence word word
def $f($text: str, old: str, new: str) -> str:
    : Return the $text with the old word replaced by the new word.
    words = [new if word == old else word for word in $text.split()]
    return " ".join(words)
--
    words = []
    for word in $text.split():
        if word == old:
            words.append(new)
        else:
            words.append(word)
    return " ".join(words)
"""
