"""A basket of goods and what it costs."""

from shop.prices import discount, format_price, with_tax


class Basket:
    """Goods with their number and price."""

    def __init__(self):
        self.lines = []

    def add(self, name, cents, count=1):
        if count < 1:
            raise ValueError("count must be at least 1")
        self.lines.append((name, cents, count))

    def remove(self, name):
        self.lines = [line for line in self.lines if line[0] != name]

    def total(self):
        return sum(cents * count for _, cents, count in self.lines)

    def is_empty(self):
        return len(self.lines) == 0

    def receipt(self):
        rows = []
        for name, cents, count in self.lines:
            rows.append(f"{count} x {name}: {format_price(cents * count)}")
        rows.append(f"total: {format_price(with_tax(self.total()))}")
        return "\n".join(rows)


def voucher(basket, percent):
    """The total of a basket after a voucher."""
    return discount(basket.total(), percent)
