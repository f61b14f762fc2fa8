"""A mapping as a value, and as text a person can read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

OPERANDS = ("input", "weight", "output")


@dataclass(frozen=True, eq=False)
class Mapping:
    """How one loop nest is laid on an engine's slots.

    Attributes:
        slots: Slot names, outer to inner.
        dims: Dimension names.
        extents: True extent of every dimension.
        fanout: bool[S], which slots are spatial.
        keep: bool[S, 3], which operands each slot stores.
        factors: int64[S, D] loop bounds; the product of a column covers the extent.
        order: int64[S, D] loop order, outer to inner.
    """

    slots: tuple[str, ...]
    dims: tuple[str, ...]
    extents: tuple[int, ...]
    fanout: np.ndarray
    keep: np.ndarray
    factors: np.ndarray
    order: np.ndarray

    def __str__(self) -> str:
        """The loop nest, one line a loop, tiles named where they are kept.

        A loop of a dimension whose factors overshoot its extent is marked ``last tile partial``.
        """
        lines, depth = [], 0
        inside = np.vstack([np.cumprod(self.factors[::-1], axis=0)[::-1], np.ones(len(self.dims))])
        for s, slot in enumerate(self.slots):
            if self.fanout[s]:
                used = int(self.factors[s].prod())
                lines.append("  " * depth + f"[{slot}: {used} in parallel]")
            else:
                kept = ", ".join(name for t, name in enumerate(OPERANDS) if self.keep[s, t])
                lines.append("  " * depth + f"[{slot}: {kept}]")
            for d in self.order[s]:
                bound = int(self.factors[s, d])
                if bound == 1:
                    continue
                word = "parallel for" if self.fanout[s] else "for"
                tile = int(inside[s + 1, d])
                note = f"  # tile {tile}" if tile > 1 else ""
                if inside[0, d] != self.extents[d]:
                    note += "  (last tile partial)" if note else "  # last tile partial"
                lines.append("  " * depth + f"{word} {self.dims[d]} in 0..{bound - 1}{note}")
                depth += 1
        lines.append("  " * depth + "output += input * weight")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, list[dict[str, object]]]:
        """Slots with their loops (outer to inner) and the operands they keep."""
        slots = []
        for s, slot in enumerate(self.slots):
            loops = [
                {"dim": self.dims[d], "bound": int(self.factors[s, d])}
                for d in self.order[s]
                if self.factors[s, d] > 1
            ]
            kept = [name for t, name in enumerate(OPERANDS) if self.keep[s, t]]
            slots.append(
                {"slot": slot, "spatial": bool(self.fanout[s]), "keeps": kept, "loops": loops}
            )
        return {"slots": slots}
