"""Function families on lists and dictionaries (format: `snippet_template`)."""

COLLECTIONS = """
%% sum_values|total_of|add_all|sum_all ; ints
def $f($xs: list[int]) -> int:
    : Return the sum of the $xs. | Add up all $xs.
    $total = 0
    for $x in $xs:
        $total += $x
    return $total
--
    return sum($xs)
--
    if not $xs:
        return 0
    return $xs[0] + $f($xs[1:])
%% average|mean|*average ; nats
def $f($xs: list[float]) -> float:
    : Return the average of the $xs.
    return sum($xs) / len($xs)
--
    if not $xs:
        return 0.0
    return sum($xs) / len($xs)
--
    $total = 0
    for $x in $xs:
        $total += $x
    return $total / len($xs)
%% median|*median ; nats
def $f($xs: list[float]) -> float:
    : Return the median of the $xs.
    ordered = sorted($xs)
    middle = len(ordered) // 2
    if len(ordered) % 2 == 1:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2
%% variance|*variance ; nats
def $f($xs: list[float]) -> float:
    : Return the variance of the $xs.
    mean = sum($xs) / len($xs)
    return sum(($x - mean) ** 2 for $x in $xs) / len($xs)
%% value_range|spread|*spread ; ints
def $f($xs: list[int]) -> int:
    : Return the difference between the largest and smallest $x.
    return max($xs) - min($xs)
%% find_max|largest|find_largest|maximum_of ; ints
def $f($xs: list[int]) -> int:
    : Return the largest $x. | Find the largest $x.
    $best = $xs[0]
    for $x in $xs:
        if $x > $best:
            $best = $x
    return $best
--
    return max($xs)
%% find_min|smallest_of|find_smallest ; ints
def $f($xs: list[int]) -> int:
    : Return the smallest $x. | Find the smallest $x.
    $least = $xs[0]
    for $x in $xs:
        if $x < $least:
            $least = $x
    return $least
--
    return min($xs)
%% product_of|multiply_all|product_of_list ; nats
def $f($xs: list[int]) -> int:
    : Return the product of the $xs.
    $result = 1
    for $x in $xs:
        $result *= $x
    return $result
%% binary_search|find_sorted|search ; sorted int
def $f($xs: list[int], $target: int) -> int:
    : Return the index of $target in sorted $xs, or -1.
    left = 0
    right = len($xs) - 1
    while left <= right:
        middle = (left + right) // 2
        if $xs[middle] == $target:
            return middle
        if $xs[middle] < $target:
            left = middle + 1
        else:
            right = middle - 1
    return -1
%% linear_search|find_index|index_of ; ints int
def $f($xs: list[int], $target: int) -> int:
    : Return the first index of $target, or -1.
    for $i, $x in enumerate($xs):
        if $x == $target:
            return $i
    return -1
--
    for $i in range(len($xs)):
        if $xs[$i] == $target:
            return $i
    return -1
%% bubble_sort|sort_with_swaps ; ints
def $f($xs: list[int]) -> list[int]:
    : Return the $xs in increasing order.
    ordered = list($xs)
    for $i in range(len(ordered)):
        for $j in range(len(ordered) - 1 - $i):
            if ordered[$j] > ordered[$j + 1]:
                ordered[$j], ordered[$j + 1] = ordered[$j + 1], ordered[$j]
    return ordered
%% selection_sort|sort_by_selection ; ints
def $f($xs: list[int]) -> list[int]:
    : Return the $xs in increasing order.
    remaining = list($xs)
    ordered = []
    while remaining:
        smallest = min(remaining)
        remaining.remove(smallest)
        ordered.append(smallest)
    return ordered
%% insertion_sort|sort_by_insertion ; ints
def $f($xs: list[int]) -> list[int]:
    : Return the $xs in increasing order.
    ordered = []
    for $x in $xs:
        $i = len(ordered)
        while $i > 0 and ordered[$i - 1] > $x:
            $i -= 1
        ordered.insert($i, $x)
    return ordered
%% quick_sort|quicksort ; ints
def $f($xs: list[int]) -> list[int]:
    : Return the $xs in increasing order.
    if len($xs) < 2:
        return $xs
    pivot = $xs[0]
    smaller = [$x for $x in $xs[1:] if $x < pivot]
    larger = [$x for $x in $xs[1:] if $x >= pivot]
    return $f(smaller) + [pivot] + $f(larger)
%% merge_sorted|merge|merge_lists ; sorted sorted
def $f($ls: list[int], $rs: list[int]) -> list[int]:
    : Merge two sorted lists into one sorted list.
    merged = []
    i = 0
    j = 0
    while i < len($ls) and j < len($rs):
        if $ls[i] <= $rs[j]:
            merged.append($ls[i])
            i += 1
        else:
            merged.append($rs[j])
            j += 1
    return merged + $ls[i:] + $rs[j:]
%% is_sorted|check_sorted|is_increasing ; ints
def $f($xs: list[int]) -> bool:
    : Return True if the $xs are in increasing order.
    for $i in range(len($xs) - 1):
        if $xs[$i] > $xs[$i + 1]:
            return False
    return True
--
    return all(a <= b for a, b in zip($xs, $xs[1:]))
%% remove_duplicates|unique|unique_values ; nats
def $f($items: list) -> list:
    : Return the $items without duplicates, in order.
    $seen = set()
    $result = []
    for $item in $items:
        if $item not in $seen:
            $seen.add($item)
            $result.append($item)
    return $result
--
    return list(dict.fromkeys($items))
%% has_duplicates|contains_duplicates ; nats
def $f($items: list) -> bool:
    : Return True if some $item occurs twice.
    return len(set($items)) != len($items)
%% count_items|tally|count_each ; words
def $f($items: list[str]) -> dict[str, int]:
    : Return how often each $item occurs.
    $counts = {}
    for $item in $items:
        $counts[$item] = $counts.get($item, 0) + 1
    return $counts
--
    return dict(Counter($items))
%% flatten|flatten_list|join_lists ; nested
def $f(nested: list[list[int]]) -> list[int]:
    : Return one flat list of all items.
    return [item for inner in nested for item in inner]
--
    flat = []
    for inner in nested:
        flat.extend(inner)
    return flat
--
    flat = []
    for inner in nested:
        for item in inner:
            flat.append(item)
    return flat
%% chunks|split_into_chunks|make_groups ; nats small
def $f($items: list, size: int) -> list[list]:
    : Split the $items into lists of the given size.
    return [$items[$i:$i + size] for $i in range(0, len($items), size)]
--
    $result = []
    for $i in range(0, len($items), size):
        $result.append($items[$i:$i + size])
    return $result
%% rotate|rotate_left|shift_left ; ints small
def $f($items: list, steps: int) -> list:
    : Return the $items rotated to the left.
    steps = steps % len($items)
    return $items[steps:] + $items[:steps]
%% running_totals|cumulative_sum|running_sum ; ints
def $f($xs: list[int]) -> list[int]:
    : Return the running totals of the $xs.
    totals = []
    current = 0
    for $x in $xs:
        current += $x
        totals.append(current)
    return totals
%% differences|*differences ; ints
def $f($xs: list[int]) -> list[int]:
    : Return the differences between neighbors.
    return [b - a for a, b in zip($xs, $xs[1:])]
%% moving_average|*moving_average ; nats small
def $f($xs: list[float], size: int) -> list[float]:
    : Return the average of every window of the given size.
    averages = []
    for $i in range(len($xs) - size + 1):
        window = $xs[$i:$i + size]
        averages.append(sum(window) / size)
    return averages
%% common_items|intersection|shared_items ; nats nats
def $f($ls: list[int], $rs: list[int]) -> list[int]:
    : Return the items that occur in both lists.
    return [item for item in $ls if item in $rs]
--
    common = []
    for item in $ls:
        if item in $rs:
            common.append(item)
    return common
%% missing_items|difference_of|not_in_second ; nats nats
def $f($ls: list[int], $rs: list[int]) -> list[int]:
    : Return the items of $ls that are not in $rs.
    return [item for item in $ls if item not in $rs]
%% pair_up|combine|make_pairs ; words ints
def $f($ls: list, $rs: list) -> list[tuple]:
    : Return the pairs of items of both lists.
    return list(zip($ls, $rs))
--
    pairs = []
    for a, b in zip($ls, $rs):
        pairs.append((a, b))
    return pairs
%% to_dict|make_dict|pairs_to_dict ; pairs
def $f(pairs: list[tuple[str, int]]) -> dict[str, int]:
    : Return a dictionary made from the pairs.
    return {key: value for key, value in pairs}
--
    $result = {}
    for key, value in pairs:
        $result[key] = value
    return $result
%% invert|swap_keys_and_values|invert_dict ; scores
def $f($d: dict[str, int]) -> dict[int, str]:
    : Return the dictionary with keys and values swapped.
    return {$value: $key for $key, $value in $d.items()}
--
    inverted = {}
    for $key, $value in $d.items():
        inverted[$value] = $key
    return inverted
%% best_key|key_of_maximum|find_top ; scores
def $f($d: dict[str, int]) -> str:
    : Return the $key with the largest $value.
    return max($d, key=$d.get)
--
    best = None
    for $key, $value in $d.items():
        if best is None or $value > $d[best]:
            best = $key
    return best
%% sort_by_value|sorted_by_value ; stock
def $f($d: dict[str, int]) -> list[tuple[str, int]]:
    : Return the pairs of $key and $value, largest first.
    return sorted($d.items(), key=lambda pair: pair[1], reverse=True)
%% total_value|sum_of_values ; stock
def $f($d: dict[str, int]) -> int:
    : Return the sum of each $value.
    return sum($d.values())
--
    $total = 0
    for $value in $d.values():
        $total += $value
    return $total
%% merge_dicts|merge_counts|add_counts ; stock stock
def $f(first: dict[str, int], second: dict[str, int]) -> dict[str, int]:
    : Return both dictionaries merged, with values added.
    merged = dict(first)
    for key, value in second.items():
        merged[key] = merged.get(key, 0) + value
    return merged
%% keys_above|filter_by_value ; stock int
def $f($d: dict[str, int], $limit: int) -> list[str]:
    : Return every $key whose $value is above the $limit.
    return [$key for $key, $value in $d.items() if $value > $limit]
--
    $result = []
    for $key, $value in $d.items():
        if $value > $limit:
            $result.append($key)
    return $result
%% transpose|*transpose|flip_matrix ; matrix
def $f($matrix: list[list[int]]) -> list[list[int]]:
    : Return the transposed $matrix.
    return [list(column) for column in zip(*$matrix)]
--
    rows = len($matrix)
    columns = len($matrix[0])
    return [[$matrix[i][j] for i in range(rows)] for j in range(columns)]
%% row_sums|*row_sums ; matrix
def $f($matrix: list[list[int]]) -> list[int]:
    : Return the sum of each row of the $matrix.
    return [sum(row) for row in $matrix]
--
    sums = []
    for row in $matrix:
        sums.append(sum(row))
    return sums
%% identity_matrix|identity|make_identity ; small
def $f(size: int) -> list[list[int]]:
    : Return the identity matrix of the given size.
    return [[1 if i == j else 0 for j in range(size)] for i in range(size)]
--
    matrix = []
    for i in range(size):
        row = [0] * size
        row[i] = 1
        matrix.append(row)
    return matrix
%% multiply_matrices|matrix_product|matmul ; square square
def $f(a: list[list[int]], b: list[list[int]]) -> list[list[int]]:
    : Return the product of two matrices.
    rows = len(a)
    columns = len(b[0])
    result = [[0] * columns for _ in range(rows)]
    for i in range(rows):
        for j in range(columns):
            for k in range(len(b)):
                result[i][j] += a[i][k] * b[k][j]
    return result
"""
