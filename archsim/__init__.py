"""archsim: exact, fast and explained design-space exploration for deep-learning accelerators.

The names below are imported on first use, so ``import archsim`` stays light.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "Workload": "archsim.workload",
    "load_workload": "archsim.workload",
    "Machine": "archsim.hardware",
    "load_machine": "archsim.hardware",
    "evaluate": "archsim.system",
    "Cost": "archsim.system",
    "map": "archsim.models.loopnest.optimal.api:map_operation",
    "DesignSpace": "archsim.space",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module, _, attribute = _LAZY[name].partition(":")
        return getattr(importlib.import_module(module), attribute or name)
    raise AttributeError(f"module 'archsim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
