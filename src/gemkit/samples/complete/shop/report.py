"""A day in the shop as text."""

from shop.basket import Basket
from shop.prices import format_price
from shop.stock import Stock


def sold(baskets):
    """Count how often each thing was sold."""
    counts = {}
    for basket in baskets:
        for name, _, count in basket.lines:
            counts[name] = counts.get(name, 0) + count
    return counts


def best_seller(baskets):
    """The name of what was sold most often, or None."""
    counts = sold(baskets)
    if not counts:
        return None
    return max(counts, key=counts.get)


def report(baskets, stock):
    """Lines about the day."""
    total = sum(basket.total() for basket in baskets)
    lines = [f"baskets: {len(baskets)}", f"turnover: {format_price(total)}"]
    lines.append(f"best seller: {best_seller(baskets)}")
    for name in stock.missing():
        lines.append(f"order more: {name}")
    return "\n".join(lines)


if __name__ == "__main__":
    basket = Basket()
    basket.add("tea", 350, 2)
    print(report([basket], Stock({"tea": 5, "salt": 0})))
