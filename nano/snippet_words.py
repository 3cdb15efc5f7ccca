"""Function families on lists of words (format: `snippet_template`)."""

WORD_LISTS = """
%% word_lengths|*word_lengths ; words
def $f($words: list[str]) -> list[int]:
    : Return the length of each $w.
    return [len($w) for $w in $words]
--
    $result = []
    for $w in $words:
        $result.append(len($w))
    return $result
%% longest_word|find_longest|*longest ; words
def $f($words: list[str]) -> str:
    : Return the longest $w.
    longest = ""
    for $w in $words:
        if len($w) > len(longest):
            longest = $w
    return longest
--
    return max($words, key=len)
%% shortest_word|find_shortest|*shortest ; words
def $f($words: list[str]) -> str:
    : Return the shortest $w.
    return min($words, key=len)
--
    shortest = $words[0]
    for $w in $words[1:]:
        if len($w) < len(shortest):
            shortest = $w
    return shortest
%% join_words|join_with_commas|make_sentence ; words
def $f($words: list[str]) -> str:
    : Return the $words joined by commas.
    return ", ".join($words)
%% join_lines|make_lines ; words
def $f($words: list[str]) -> str:
    : Return the $words, one on each line.
    return "\\n".join($words)
%% words_starting_with|find_by_prefix|filter_prefix ; words char
def $f($words: list[str], prefix: str) -> list[str]:
    : Return the $words that start with the prefix.
    return [$w for $w in $words if $w.startswith(prefix)]
--
    $result = []
    for $w in $words:
        if $w.startswith(prefix):
            $result.append($w)
    return $result
%% words_ending_with|find_by_suffix|filter_suffix ; words char
def $f($words: list[str], suffix: str) -> list[str]:
    : Return the $words that end with the suffix.
    return [$w for $w in $words if $w.endswith(suffix)]
%% words_containing|search_words|find_words ; words char
def $f($words: list[str], part: str) -> list[str]:
    : Return the $words that contain the part.
    return [$w for $w in $words if part in $w]
--
    $result = []
    for $w in $words:
        if part in $w:
            $result.append($w)
    return $result
%% long_words|words_longer_than ; words small
def $f($words: list[str], length: int) -> list[str]:
    : Return the $words longer than the given length.
    return [$w for $w in $words if len($w) > length]
--
    $result = []
    for $w in $words:
        if len($w) > length:
            $result.append($w)
    return $result
%% sort_by_length|sorted_by_length ; words
def $f($words: list[str]) -> list[str]:
    : Return the $words sorted by length.
    return sorted($words, key=len)
--
    return sorted($words, key=lambda $w: len($w))
%% upper_all|to_upper_case|uppercase_words ; words
def $f($words: list[str]) -> list[str]:
    : Return all $words in upper case.
    return [$w.upper() for $w in $words]
--
    $result = []
    for $w in $words:
        $result.append($w.upper())
    return $result
%% group_by_first_letter|index_by_letter ; words
def $f($words: list[str]) -> dict[str, list[str]]:
    : Return the $words grouped by their first letter.
    groups = {}
    for $w in $words:
        letter = $w[0]
        if letter not in groups:
            groups[letter] = []
        groups[letter].append($w)
    return groups
--
    groups = {}
    for $w in $words:
        groups.setdefault($w[0], []).append($w)
    return groups
--
    groups = defaultdict(list)
    for $w in $words:
        groups[$w[0]].append($w)
    return dict(groups)
"""
