from shop.prices import discount, format_price, parse_price, with_tax


def test_prices_are_read_and_written():
    assert parse_price("3.50") == 350
    assert parse_price("12") == 1200
    assert format_price(1205) == "12.05"


def test_tax_is_rounded():
    assert with_tax(1000) == 1200
    assert with_tax(1) == 1


def test_discounts():
    assert discount(2000, 25) == 1500
    assert discount(2000, 100) == 0
