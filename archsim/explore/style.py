"""How figures look: one size, one font, colours told apart by everyone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsim.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Eight colours that stay apart under all common colour-vision deficiencies: M. Okabe, K. Ito,
#: "Color Universal Design" (2008), with yellow darkened for thin lines on white.
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#000000",
    "#B8A800",
)
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)))
GREY = "#9A9A9A"
INK = "#222222"
LIMIT = "#B00020"
DPI = 160
#: Formats of figures, and what would put the moment into the file: same results, same bytes.
FORMATS = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.edgecolor": "#555555",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "archsim",
}


def line_style(place: int) -> dict[str, Any]:
    """Colour and dash of the n-th line; 24 combinations before one repeats."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": DASHES[place // len(COLOURS) % len(DASHES)],
    }


@contextmanager
def figure(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure that is written to a file when the block ends.

    Args:
        path: The file; its ending says whether it is PNG, PDF or SVG.
        width: Inches.
        height: Inches.

    Raises:
        InputError: Another ending.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError("not a name of a figure", found=str(path), expected=", ".join(FORMATS))
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        canvas = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        FigureCanvasAgg(canvas)
        yield canvas
        canvas.savefig(path, metadata=FORMATS[path.suffix.lower()])


def log_if_wide(axis: Any, low: float, high: float, ratio: float = 8.0) -> bool:
    """Use a logarithmic axis where the values span more than ``ratio``."""
    if not (low > 0 and high / low > ratio):
        return False
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    from archsim.explore.units import number

    setter = axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale
    setter("log")
    decades = high / low > 30
    axis.set_major_locator(LogLocator(subs=(1.0,) if decades else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 1)))
    axis.set_minor_formatter(NullFormatter())
    return True
