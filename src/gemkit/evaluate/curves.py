"""Line charts as inline SVG, coloured by the page's own style: `line-1` to `line-3`.

Drawn by hand: a chart is a few polylines and ticks, and a plotting library would be a tenth of
gemkit's installed size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 26
MAX_POINTS = 300


@dataclass(frozen=True)
class Line:
    """One curve. faint: drawn thin, as the background of a smoothed one; dots: points marked."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 1
    faint: bool = False
    dots: bool = False


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers from low to high: steps of 1, 2 or 5 times a power of ten.

    >>> ticks(0, 0.9), ticks(3, 117)
    ([0.0, 0.2, 0.4, 0.6, 0.8], [20.0, 40.0, 60.0, 80.0, 100.0])
    """
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    power = 10.0 ** math.floor(math.log10(span / count))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda s: abs(span / s - count))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def smooth(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The mean over a twentieth of the points around each, fewer near the ends.

    A mean that looks back only would lag behind a loss that falls fast.
    """
    reach = max(1, len(points) // 40)
    sums = [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    smoothed = []
    for i, (x, _) in enumerate(points):
        first, end = max(0, i - reach), min(len(points), i + reach + 1)
        smoothed.append((x, (sums[end] - sums[first]) / (end - first)))
    return smoothed


def thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MAX_POINTS points, each the mean of its neighbours; those not finite are left out."""
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    size = -(-len(finite) // MAX_POINTS) or 1
    groups = [finite[i : i + size] for i in range(0, len(finite), size)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def chart(title: str, lines: Sequence[Line], share: bool = False) -> str:
    """A figure with legend, grid and lines over steps, from 0; "" where there is nothing to draw.

    share: values from 0 to 1, shown in per cent.
    """
    lines = [Line(c.name, thin(c.points), c.colour, c.faint, c.dots) for c in lines]
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    left, right = min(xs), max(xs)
    low, high = min(*ys, 0.0), max(*ys, 0.0)
    high = 1.0 if share or high == low else high + (high - low) * 0.05

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - left) / (right - left) if right > left else 0.5
        up = (y - low) / (high - low)
        return (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM),
        )

    parts = []
    for y in ticks(low, high):
        _, v = place(left, y)
        label = f"{y:.0%}" if share else f"{y:.4g}"
        parts.append(f'<path class="grid" d="M{LEFT} {v:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{v + 3.5:.1f}" text-anchor="end">{label}</text>')
    for x in filter(float.is_integer, ticks(left, right)):
        h, _ = place(x, low)
        where = f'x="{h:.1f}" y="{HEIGHT - 8}"'
        parts.append(f'<text {where} text-anchor="middle">{x:.6g}</text>')
    parts.append(f'<text x="{LEFT - 14}" y="{HEIGHT - 8}" text-anchor="end">step</text>')
    for line in lines:
        parts += _drawn(line, [place(x, y) for x, y in line.points])
    legend = "".join(
        f'<span class="key line-{line.colour}">{escape(line.name)}</span>'
        for line in lines
        if not line.faint and sum(not other.faint for other in lines) > 1
    )
    return (
        f"<figure><figcaption><b>{escape(title)}</b>{legend}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)} over steps">'
        f"{''.join(parts)}</svg></figure>"
    )


def _drawn(line: Line, places: Sequence[tuple[float, float]]) -> list[str]:
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    kind = f"line-{line.colour}{' faint' if line.faint else ''}"
    parts = [f'<path class="{kind}" d="{path}"/>']
    if line.dots or len(places) == 1:
        parts += [
            f'<circle class="{kind}" cx="{h:.1f}" cy="{v:.1f}" r="3">'
            f"<title>step {x:.6g}: {y:.4g}</title></circle>"
            for (h, v), (x, y) in zip(places, line.points, strict=True)
        ]
    return parts
