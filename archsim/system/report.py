"""Numbers in words: SI prefixes, shares of a total."""

from __future__ import annotations

from collections.abc import Iterable

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"))


def quantity(value: float, unit: str) -> str:
    """A number with an SI prefix and three significant digits.

    Example:
        >>> quantity(0.0213, "s"), quantity(0.0, "J"), quantity(2.5e9, "Hz")
        ('21.3 ms', '0 J', '2.5 GHz')
    """
    if value == 0:
        return f"0 {unit}"
    for scale, prefix in _PREFIXES:
        if abs(value) >= scale * 0.9995:
            return f"{value / scale:.3g} {prefix}{unit}"
    return f"{value / 1e-12:.3g} p{unit}"


def shares(parts: dict[str, float], total: float, unit: str) -> Iterable[str]:
    """Lines ``name  value  share``, largest first, parts under 0.1 % left out."""
    for name, value in sorted(parts.items(), key=lambda item: -item[1]):
        if total > 0 and value >= 1e-3 * total:
            yield f"  {name:<22}{quantity(value, unit):>12}{value / total:>8.1%}"
