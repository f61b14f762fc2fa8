"""``archsim validate``: the models beside published and measured data, case by case.

Every figure of ours is computed when asked for; what it is compared with comes from the reference
data (``ARCHSIM_REFS``) or is typed here with its source.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature

from archsim.errors import ArchsimError, InputError

#: Comparison, the module and function that make it, and what it needs.
COMPARISONS = {
    "loopnest": "counts, cycles and energy beside Timeloop",
    "dosa": "6,000 Gemmini machines, layers and mappings beside Timeloop",
    "rtl": "Gemmini's RTL beside the loop-nest model and the Gemmini model",
    "systolic": "cycles, utilisation and reads beside SCALE-Sim",
    "eyeriss": "AlexNet beside the Eyeriss chip",
    "mapper": "mappings of little effort beside those of much",
    "dram": "cycles, latencies, row hits, energy beside DRAMSys, DRAMsim3 and Ramulator",
    "gpu": "kernels beside measured A100 and H100; --calibrate [KERNEL] --out FILE fits again,"
    " --folds [KERNEL] fits to all folds of the shapes but one",
    "pim": "the closed form of kernels in memory beside the command level",
    "papers": "published figures of language-model systems",
    "workloads": "MACs and parameters beside published figures",
}


def _tool(name: str) -> Callable[..., bool]:
    from importlib import import_module

    return getattr(import_module(f"archsim.validate.{name}"), f"validate_{name}")


def main(name: str | None = None, **options: object) -> int:
    """Run one comparison, or all, and print its table.

    Args:
        name: A key of :data:`COMPARISONS`; None for all.
        **options: For the one comparison asked for.

    Returns:
        0 if everything that must agree does; 1 if something differs, or if some comparisons of
        all could not be made.

    Raises:
        ArchsimError: The name is unknown, or the one comparison asked for lacks its data.
    """
    if name is not None and name not in COMPARISONS:
        raise InputError("no such comparison", found=name, expected=", ".join(COMPARISONS))
    if options:
        known = list(signature(_tool(name)).parameters) if name else []
        if unknown := [option for option in options if option not in known]:
            raise InputError(
                "no such option", found=f"--{unknown[0].replace('_', '-')}",
                expected=", ".join(f"--{k}" for k in known) or "none",
            )  # fmt: skip
    status = 0
    for i, key in enumerate([name] if name else COMPARISONS):
        if i:
            print()
        try:
            agrees = _tool(key)(**options)
        except ArchsimError as error:
            if name:
                raise
            print(f"{key}: not compared: {error}")
            agrees = False
        if not agrees:
            status = 1
    return status
