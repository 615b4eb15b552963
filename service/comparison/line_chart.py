"""A chart of values against the kept fraction, on a logarithmic axis: lines with bands, as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from circuit_atlas.service.comparison.colours import of_criterion, on_white

Colour = Callable[[str], str]
_WIDTH, _TOP, _PLOT, _LEFT, _RIGHT = 500, 34, 230, 40, 22
_BELOW, _ENTRY, _LINE = 44, 150, 19
# Fractions that span more than this leave no room for names between powers of ten.
_ROOMY = 2000
# The last is what many a machine without a browser has alone.
_FONT = "Inter, 'Helvetica Neue', Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"


@dataclass(frozen=True)
class Series:
    """Is a line of the chart.

    Attributes:
        criterion: which it is of.
        values: one a fraction; None where there is none.
        low, high: its band; None where there is none.
        floor: whether it is one that others are held against, which is dashed.
    """

    criterion: str
    values: Sequence[float | None]
    low: Sequence[float | None]
    high: Sequence[float | None]
    floor: bool = False


@dataclass(frozen=True)
class LineChart:
    """Is a chart of several criteria.

    Attributes:
        title: what it shows.
        fractions: that its values are at.
        series: its lines.
    """

    title: str
    fractions: Sequence[float]
    series: Sequence[Series]

    def svg(self, colour: Colour = on_white) -> str:
        """Draw it: with the colours of a file of its own, or as `colour` names them."""
        rows = math.ceil(len(self.series) / self._a_row)
        height = _TOP + _PLOT + _BELOW + rows * _LINE + 4
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
                f'width="{_WIDTH}" height="{height}" role="img" font-family="{_FONT}" '
                f'font-size="12" aria-label="{escape(self.title)}">',
                f"<title>{escape(self.title)}</title>",
                f'<rect width="{_WIDTH}" height="{height}" fill="{colour("surface")}"/>',
                f'<text x="2" y="16" font-size="13" font-weight="600" fill="{colour("ink")}">'
                f"{escape(self.title)}</text>",
                *self._axes(colour),
                *(band for one in self.series for band in self._band(one, colour)),
                *(line for one in self.series for line in self._line(one, colour)),
                *self._legend(colour),
                "</svg>",
            ]
        )

    @property
    def _a_row(self) -> int:
        return (_WIDTH - _LEFT) // _ENTRY

    @property
    def _floor(self) -> float:
        """The lowest value of the axis: 0, or what is below it."""
        values = [value for one in self.series for value in (*one.values, *one.low)]
        lowest = min((value for value in values if value is not None), default=0.0)
        return 0.0 if lowest >= 0 else max(-1.0, math.floor(lowest * 5) / 5)

    def _x(self, fraction: float) -> float:
        logs = math.log(min(self.fractions)), math.log(max(self.fractions))
        width = _WIDTH - _LEFT - _RIGHT
        share = 0.5 if logs[0] == logs[1] else (math.log(fraction) - logs[0]) / (logs[1] - logs[0])
        return _LEFT + width * share

    def _y(self, value: float) -> float:
        return _TOP + _PLOT * (1 - max(value, self._floor)) / (1 - self._floor)

    def _axes(self, colour: Colour) -> Iterator[str]:
        bottom = _TOP + _PLOT
        for tick in range(round(self._floor * 5), 6):
            y, line = self._y(tick / 5), colour("line-strong" if tick == 0 else "line")
            yield f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="{line}"/>'
            text = f"{tick / 5:.1f}".replace("-", "−")
            yield self._text(_LEFT - 6, y + 4, text, "end", colour)
        for fraction in self._ticks():
            x = self._x(fraction)
            yield f'<path d="M{x:.1f} {bottom}v4" stroke="{colour("line-strong")}"/>'
            yield self._text(x, bottom + 17, percent(fraction), "middle", colour)
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        yield self._text(middle, bottom + 34, "kernels kept", "middle", colour)

    def _ticks(self) -> Iterator[float]:
        """Powers of ten as far as the fractions go, with 2 and 5 of each where there is room; the
        fraction itself where there is one."""
        low, high = min(self.fractions), max(self.fractions)
        if low == high:
            yield low
            return
        digits = (1, 2, 5) if high / low < _ROOMY else (1,)
        for power in range(math.floor(math.log10(low)), 1):
            for digit in digits:
                tick = digit * 10.0**power
                if low * 0.999 <= tick <= high * 1.001:
                    yield tick

    def _band(self, one: Series, colour: Colour) -> Iterator[str]:
        ends = [
            (self._x(fraction), self._y(low), self._y(high))
            for fraction, low, high in zip(self.fractions, one.low, one.high, strict=True)
            if low is not None and high is not None
        ]
        if ends:
            outline = [(x, low) for x, low, _ in ends] + [(x, high) for x, _, high in ends[::-1]]
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in outline)
            fill = colour(of_criterion(one.criterion))
            yield f'<polygon points="{points}" fill="{fill}" fill-opacity="0.16"/>'

    def _line(self, one: Series, colour: Colour) -> Iterator[str]:
        points = [
            (self._x(fraction), self._y(value))
            for fraction, value in zip(self.fractions, one.values, strict=True)
            if value is not None
        ]
        ink = colour(of_criterion(one.criterion))
        dashes = ' stroke-dasharray="5 4"' if one.floor else ""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield (
            f'<polyline points="{path}" fill="none" stroke="{ink}" stroke-width="2" '
            f'stroke-linejoin="round"{dashes}/>'
        )
        for x, y in points:
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{ink}"/>'

    def _legend(self, colour: Colour) -> Iterator[str]:
        for at, one in enumerate(self.series):
            x = _LEFT + _ENTRY * (at % self._a_row)
            y = _TOP + _PLOT + _BELOW + _LINE * (at // self._a_row) + 10
            dashes = ' stroke-dasharray="5 4"' if one.floor else ""
            yield (
                f'<path d="M{x} {y - 4}h18" stroke="{colour(of_criterion(one.criterion))}" '
                f'stroke-width="2.5"{dashes}/>'
            )
            yield self._text(x + 23, y, one.criterion, "start", colour)

    @staticmethod
    def _text(x: float, y: float, text: str, anchor: str, colour: Colour) -> str:
        return (
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour("ink-2")}">'
            f"{escape(text)}</text>"
        )


def percent(fraction: float) -> str:
    """Write a kept fraction.

    >>> percent(0.1), percent(0.002)
    ('10 %', '0.2 %')
    """
    return f"{100 * fraction:.3g} %"
