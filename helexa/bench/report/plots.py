"""A cell's history as a drawing: inline SVG, coloured by the page's style, without a script. Pure.

A run is a bar from the low to the high end of its interval, a tick at its median, and a dot for each of its rounds.
Builds take turns of background; where one changed the figure, a flag says by how much.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import groupby, pairwise
from typing import Final

from attrs import field, frozen

from helexa.bench.analysis.statistics import Interval
from helexa.bench.records import Metric
from helexa.bench.report.figures import MINUS, plain

WIDTH, HEIGHT = 400, 168
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 6, 22, 22
_LETTER: Final = 5.6  # about the width of a letter at the drawing's size of text
_NARROWEST: Final = 0.16  # the least that an axis spans, as a share: noise of 1 % must not look like a mountain range
_NARROWEST_ABSOLUTE: Final = {"": 0.2, "nats/token": 0.1}  # likewise where differences count as they are
_FURTHER: Final = 0.35  # how far beyond the intervals dots are drawn, in heights of all of them
_TICKS: Final = 5
_WRITTEN_OUT: Final = (1e-4, 1e5)  # steps between ticks that have the room to be written without an exponent


@frozen
class Point:
    """A run in a history.

    Attributes:
        found: its figure.
        rounds: what it is made of.
        build: the build's id; neighbours of one id share a background.
        name: what the build is called on the axis.
        told: what a pointer over it is told.
        flag: by how much its build changed the figure, on the first run of that.
        worse: whether that was a regression.
    """

    found: Interval
    rounds: Sequence[float]
    build: str
    name: str
    told: str
    flag: str = ""
    worse: bool = False


@frozen
class _Axes:
    """Where values and runs are drawn."""

    low: float
    high: float
    step: float
    width: float = field(default=float(WIDTH - _LEFT - _RIGHT))

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return HEIGHT - _BOTTOM - min(1.0, max(0.0, share)) * (HEIGHT - _TOP - _BOTTOM)

    def x(self, place: int) -> float:
        return _LEFT + self.step * (place + 0.5)


def history(points: Sequence[Point], metric: Metric, factor: float, unit: str) -> str:
    """Draw runs, oldest first.

    Args:
        points: at least one.
        metric: what is drawn.
        factor: what values are multiplied with to be in ``unit``.
        unit: of the axis.

    Returns:
        An ``svg`` element; every text in it is escaped.
    """
    axes = _axes(points, metric)
    parts = [*_builds(points, axes), *_grid(axes, factor), *_runs(points, axes), *_flags(points, axes)]
    label = escape(plain(f"{metric.title} in {unit or 'shares'}, {len(points)} runs, oldest first"))
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def ticks(low: float, high: float, most: int = _TICKS) -> list[float]:
    """Return round values within a range: steps of 1, 2, 2.5 or 5 times a power of ten."""
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [place * step for place in range(first, math.floor(high / step + 1e-9) + 1)]


def _axes(points: Sequence[Point], metric: Metric) -> _Axes:
    low, high = min(point.found.low for point in points), max(point.found.high for point in points)
    every = [value for point in points for value in point.rounds]
    reach = _FURTHER * (high - low)
    low, high = max(min([low, *every]), low - reach), min(max([high, *every]), high + reach)
    share = max(abs(low), abs(high)) * _NARROWEST or 1.0
    middle, least = (low + high) / 2, _NARROWEST_ABSOLUTE.get(metric.unit, share)
    half = max(high - low, least, 1e-12) * 0.54
    bottom = 0.0 if low >= 0 > middle - half else middle - half
    return _Axes(bottom, middle + half, (WIDTH - _LEFT - _RIGHT) / max(len(points), 6))


def _builds(points: Sequence[Point], axes: _Axes) -> Iterator[str]:
    """Shade every other build, and name it beneath if there is room."""
    for number_, (begin, end) in enumerate(_eras(points)):
        x, width = _LEFT + begin * axes.step, (end - begin) * axes.step
        if number_ % 2:
            yield f'<rect class="b" x="{x:.1f}" y="{_TOP}" width="{width:.1f}" height="{HEIGHT - _TOP - _BOTTOM}"/>'
        name = plain(points[begin].name)
        if len(name) * _LETTER < width:
            yield _text("n", x + width / 2, HEIGHT - 7, name)


def _eras(points: Sequence[Point]) -> Iterator[tuple[int, int]]:
    begin = 0
    for _, group in groupby(points, key=lambda point: point.build):
        end = begin + len(list(group))
        yield begin, end
        begin = end


def _grid(axes: _Axes, factor: float) -> Iterator[str]:
    values = [value / factor for value in ticks(axes.low * factor, axes.high * factor)]
    for value in values:
        yield f'<path class="g" d="M{_LEFT} {axes.y(value):.1f}H{WIDTH - _RIGHT}"/>'
    for value, label in zip(values, _labels([value * factor for value in values]), strict=True):
        yield _text("t", _LEFT - 6, axes.y(value) + 3.5, label)


def _labels(values: Sequence[float]) -> list[str]:
    """Write ticks with as many digits as tell them apart."""
    step = min((later - earlier for earlier, later in pairwise(values)), default=1.0)
    if not _WRITTEN_OUT[0] < step < _WRITTEN_OUT[1]:
        return [f"{value:.3g}".replace("-", MINUS) for value in values]
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    places += step * 10**places % 1 > 1e-6  # noqa: PLR2004 - steps of 2.5 need one more
    return [f"{value:,.{places}f}".replace("-", MINUS) for value in values]


def _runs(points: Sequence[Point], axes: _Axes) -> Iterator[str]:
    dots = "".join(_dots(place, point, axes) for place, point in enumerate(points))
    yield f'<path class="d" d="{dots}"/>'
    line = "L".join(f"{axes.x(place):.1f} {axes.y(point.found.median):.1f}" for place, point in enumerate(points))
    yield f'<path class="l" d="M{line}"/>' if len(points) > 1 else ""
    for place, point in enumerate(points):
        yield _run(place, point, axes)


def _dots(place: int, point: Point, axes: _Axes) -> str:
    """Spread rounds a little, in their order, so that equal ones stay apart."""
    room = min(axes.step * 0.6, 16.0)
    count = max(len(point.rounds) - 1, 1)
    xs = (axes.x(place) + room * (each / count - 0.5) for each in range(len(point.rounds)))
    return "".join(f"M{x:.1f} {axes.y(value):.1f}h0" for x, value in zip(xs, point.rounds, strict=True))


def _run(place: int, point: Point, axes: _Axes) -> str:
    x, half = axes.x(place), min(axes.step * 0.3, 7.0)
    low, middle, high = (axes.y(value) for value in (point.found.low, point.found.median, point.found.high))
    mark = f"M{x:.1f} {low:.1f}V{high:.1f}M{x - half:.1f} {middle:.1f}h{2 * half:.1f}"
    area = f'<rect x="{x - axes.step / 2:.1f}" y="{_TOP}" width="{axes.step:.1f}" height="{HEIGHT - _TOP - _BOTTOM}"/>'
    kind = "r" + (" bad" if point.flag and point.worse else " good" if point.flag else "")
    return f'<g class="{kind}"><title>{escape(plain(point.told))}</title>{area}<path d="{mark}"/></g>'


def _flags(points: Sequence[Point], axes: _Axes) -> Iterable[str]:
    return [_flag(place, point, axes) for place, point in enumerate(points) if point.flag]


def _flag(place: int, point: Point, axes: _Axes) -> str:
    """Draw a line where the build changed, and what it did above; on its left where there is no room on the right."""
    x, text = _LEFT + axes.step * place, plain(point.flag)
    kind, fits = "bad" if point.worse else "good", x + len(text) * _LETTER + 12 < WIDTH
    at, anchor = (x, "start") if fits else (WIDTH - _RIGHT, "end")
    line = f'<path class="f {kind}" d="M{x:.1f} {_TOP - 8}V{HEIGHT - _BOTTOM}"/>'
    return line + f'<text class="f {kind}" x="{at:.1f}" y="{_TOP - 11}" text-anchor="{anchor}">{escape(text)}</text>'


def _text(kind: str, x: float, y: float, said: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(said)}</text>'
