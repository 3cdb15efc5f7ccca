"""How many of each thing are left."""


class Stock:
    """Counts by name; a count is never negative."""

    def __init__(self, counts=None):
        self.counts = dict(counts or {})

    def add(self, name, count):
        self.counts[name] = self.counts.get(name, 0) + count

    def take(self, name, count):
        left = self.counts.get(name, 0)
        if count > left:
            raise ValueError(f"only {left} of {name} left")
        self.counts[name] = left - count

    def missing(self, least=1):
        return sorted(name for name, count in self.counts.items() if count < least)


def merge(first, second):
    """The stock of two shops together."""
    both = Stock(first.counts)
    for name, count in second.counts.items():
        both.add(name, count)
    return both
