"""Numbers as people read them: SI values inside, a fitting prefix at the edge."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_PREFIXES = {
    -18: "a",
    -15: "f",
    -12: "p",
    -9: "n",
    -6: "µ",
    -3: "m",
    0: "",
    3: "k",
    6: "M",
    9: "G",
    12: "T",
    15: "P",
    18: "E",
}

#: Metric-name ending -> (unit, takes a prefix).
_UNITS = {
    "tokens_per_s": ("tokens/s", True),
    "joules_per_token": ("J/token", True),
    "dollars_per_hour": ("USD/h", False),
    "dollars_per_mtoken": ("USD/M tokens", False),
    "carbon_g_per_mtoken": ("g CO2e/M tokens", True),
    "_usd": ("USD", True),
    "_kg": ("kg", False),
    "_bytes_per_s": ("B/s", True),
    "_per_s": ("/s", True),
    "_bytes": ("B", True),
    "_bits": ("bit", True),
    "_macs": ("MAC", True),
    "_hz": ("Hz", True),
    "_mm2": ("mm²", False),
    "_js": ("J·s", True),
    "_j": ("J", True),
    "_w": ("W", True),
    "_s": ("s", True),
}

_NAMES = {
    "latency_s": "Latency",
    "energy_j": "Energy",
    "area_mm2": "Area",
    "power_w": "Power",
    "edp_js": "Energy-delay product",
    "utilization": "Utilisation",
    "throughput_per_s": "Throughput",
    "ttft_s": "Time to first token",
    "tpot_s": "Time per output token",
    "time_per_token_s": "Time per token served",
    "tokens_per_s": "Rate of tokens",
    "joules_per_token": "Energy per token",
    "dollars_per_hour": "Cost per hour",
    "dollars_per_mtoken": "Cost of a million tokens",
    "carbon_g_per_mtoken": "Carbon of a million tokens",
    "embodied_kg": "Embodied carbon",
    "memory_share": "Share of device memory",
    "objective": "Objective",
}


def _unit(metric: str) -> tuple[str, bool]:
    base = metric.split(".", 1)[0]
    for ending, unit in _UNITS.items():
        if base.endswith(ending):
            return unit
    return "", False


def title(metric: str) -> str:
    """Name of a metric in words, without its unit: ``latency_s.bert`` is ``Latency (bert)``."""
    base, _, part = metric.partition(".")
    if base in _NAMES:
        words = _NAMES[base]
    else:
        ending = next((e for e in _UNITS if base.endswith(e)), "")
        words = base.removesuffix(ending).replace("_", " ").strip() or base
        words = words[0].upper() + words[1:]
    return f"{words} ({part})" if part else words


#: Parts of names that are written otherwise in words.
_WORDS = {
    "dram": "DRAM", "hbm": "HBM", "ddr": "DDR", "sram": "SRAM", "glb": "global buffer",
    "spad": "scratchpad", "psum": "partial-sum", "ifmap": "input", "simd": "SIMD", "mac": "MACs",
    "phy": "PHY", "pcie": "PCIe", "nvlink": "NVLink", "pim": "PIM",
}  # fmt: skip


def words(name: str) -> str:
    """Name of a component or limit in words: ``psum_spad`` is ``partial-sum scratchpad``."""
    return " ".join(_WORDS.get(part, part) for part in name.split("_"))


@dataclass(frozen=True)
class Unit:
    """A unit chosen for a set of values.

    Attributes:
        factor: Multiply SI values by this to get numbers in the unit.
        text: The unit with its prefix, e.g. ``ms``; empty for plain numbers.
    """

    factor: float
    text: str


def unit_for(metric: str, values: object) -> Unit:
    """Choose one prefix for a set of values, so that the smallest reads 1 or more where it can.

    Args:
        metric: Name with the unit at its end, e.g. ``latency_s``.
        values: SI numbers; infinite and zero ones are ignored.
    """
    unit, prefixed = _unit(metric)
    array = np.abs(np.asarray(values, dtype=np.float64).ravel())
    array = array[np.isfinite(array) & (array > 0)]
    if not prefixed or not len(array):
        return Unit(1.0, unit)
    # The median decides, so that one outlier does not turn all others into 0.000.
    power = math.floor(math.log10(float(np.median(array))) / 3 + 1e-12) * 3
    power = min(max(power, -18), 18)
    return Unit(10.0**-power, _PREFIXES[power] + unit)


def axis_label(metric: str, unit: Unit) -> str:
    """Label of an axis: ``Latency [ms]``."""
    return f"{title(metric)} [{unit.text}]" if unit.text else title(metric)


def number(value: float, digits: int = 3) -> str:
    """A number with a few significant digits and no needless exponent."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size >= 6 or size < -4:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(0, digits - 1 - size)}f}"


def human(metric: str, value: float, digits: int = 3) -> str:
    """One value with its unit: ``human("latency_s", 0.0123)`` is ``12.3 ms``."""
    if metric == "utilization":
        return f"{100 * value:.1f} %"
    unit = unit_for(metric, [value])
    if not unit.text and float(value).is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}"
    text = number(float(value) * unit.factor, digits)
    return f"{text} {unit.text}".strip()


def duration(seconds: float) -> str:
    """Elapsed time: ``8.2 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
