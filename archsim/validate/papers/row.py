"""One published figure beside ours."""

from __future__ import annotations

from dataclasses import dataclass

#: Share of a published figure that ours may be off by, where nothing else is said.
ALLOWED = 0.10
#: Share for counts and closed forms.
EXACT = 1e-9


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        paper: Where it is published.
        figure: What it is, and what is assumed.
        published: Its value, in ``unit``.
        ours: Ours.
        unit: Of both.
        allowed: Share of the published value that ours may be off by.
        least: Where a range is published, its lower end (``published`` is the upper one).
        cause: Why ours is off, where it is and that is understood.
        spread: Ours at values of a quantity that is not published or told differently, where that
            matters; whether the row is met goes by ``ours`` alone.
        over: That quantity and its values.
    """

    paper: str
    figure: str
    published: float
    ours: float
    unit: str = ""
    allowed: float = ALLOWED
    least: float | None = None
    cause: str = ""
    spread: tuple[float, ...] = ()
    over: str = ""

    @property
    def error(self) -> float:
        """Signed, relative to the published figure, or to the nearer end of its range."""
        if self.least is not None and self.ours < self.published:
            return min(self.ours / self.least - 1.0, 0.0)
        return self.ours / self.published - 1.0

    @property
    def shown(self) -> str:
        """The published figure, or its range."""
        upper = four_digits(self.published)
        return upper if self.least is None else f"{four_digits(self.least)} to {upper}"

    @property
    def spans(self) -> str:
        """From where to where ours goes over what is not published; empty where nothing is."""
        if not self.spread:
            return ""
        ends = min(*self.spread, self.ours), max(*self.spread, self.ours)
        return " to ".join(map(four_digits, ends))

    @property
    def met(self) -> bool:
        """Whether ours is close enough."""
        return abs(self.error) <= self.allowed


def four_digits(value: float) -> str:
    """A figure as people read it: four digits, whole where it is large.

    Example:
        >>> four_digits(413518608), four_digits(1.98869), four_digits(0.00032)
        ('413,518,608', '1.989', '0.00032')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def printed(value: float) -> float:
    """Share of a published whole number that its rounding leaves open.

    Example:
        >>> printed(671e9) == 0.5 / 671, printed(6738415616) < 1e-9
        (True, True)
    """
    digits = f"{value:.0f}"
    unit = 10.0 ** (len(digits) - len(digits.rstrip("0")))
    return 0.5 * unit / value if unit > 1 else EXACT / 10
