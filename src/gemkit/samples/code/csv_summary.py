"""Print the smallest, largest and mean value of each number column of a CSV file."""

import csv
import sys


def read_rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def numbers(rows, column):
    """Return the values of a column that can be read as numbers."""
    values = []
    for row in rows:
        try:
            values.append(float(row[column]))
        except ValueError:
            continue
    return values


def mean(values):
    return sum(values) / len(values)


def summary(rows):
    result = {}
    for column in rows[0]:
        values = numbers(rows, column)
        if values:
            result[column] = (min(values), max(values), mean(values))
    return result


def main(path):
    for column, (low, high, average) in summary(read_rows(path)).items():
        print(f"{column}: min {low:g}, max {high:g}, mean {average:.2f}")


if __name__ == "__main__":
    main(sys.argv[1])
