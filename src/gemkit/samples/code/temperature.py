"""Convert temperatures between Celsius, Fahrenheit and Kelvin."""

ABSOLUTE_ZERO = -273.15


def celsius_to_fahrenheit(celsius):
    return celsius * 9 / 5 + 32


def fahrenheit_to_celsius(fahrenheit):
    return (fahrenheit - 32) * 5 / 9


def celsius_to_kelvin(celsius):
    if celsius < ABSOLUTE_ZERO:
        raise ValueError("temperature below absolute zero")
    return celsius - ABSOLUTE_ZERO


def kelvin_to_celsius(kelvin):
    if kelvin < 0:
        raise ValueError("temperature below absolute zero")
    return kelvin + ABSOLUTE_ZERO


def table(start, stop, step):
    """Return (celsius, fahrenheit) pairs from start up to stop."""
    rows = []
    for celsius in range(start, stop + 1, step):
        rows.append((celsius, celsius_to_fahrenheit(celsius)))
    return rows


if __name__ == "__main__":
    for celsius, fahrenheit in table(0, 100, 20):
        print(f"{celsius} C = {fahrenheit} F")
