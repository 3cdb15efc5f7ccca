"""Count the words of a text file and print the most frequent ones."""

import sys


def words(text):
    """Split a text into lower case words without punctuation."""
    result = []
    for word in text.lower().split():
        word = word.strip(".,;:!?\"'()")
        if word:
            result.append(word)
    return result


def count(items):
    counts = {}
    for item in items:
        counts[item] = counts.get(item, 0) + 1
    return counts


def most_common(counts, limit):
    """Return the (word, count) pairs with the highest counts."""
    pairs = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return pairs[:limit]


def main(path):
    with open(path, encoding="utf-8") as file:
        counts = count(words(file.read()))
    for word, number in most_common(counts, 10):
        print(f"{number:5} {word}")


if __name__ == "__main__":
    main(sys.argv[1])
