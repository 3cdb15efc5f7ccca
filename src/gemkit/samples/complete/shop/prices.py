"""Prices in whole cents."""


def parse_price(text):
    """Read a price such as "3.50" or "12"."""
    euros, _, cents = text.strip().partition(".")
    return int(euros) * 100 + int((cents + "00")[:2])


def format_price(cents):
    """Write cents as euros with two digits."""
    return f"{cents // 100}.{cents % 100:02d}"


def with_tax(cents, percent=20):
    """Add a tax, rounded to the nearest cent."""
    return cents + (cents * percent + 50) // 100


def discount(cents, percent):
    """Take a share off a price."""
    if not 0 <= percent <= 100:
        raise ValueError("percent must be from 0 to 100")
    return cents - cents * percent // 100
