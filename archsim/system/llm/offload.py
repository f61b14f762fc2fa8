"""Which operations of a step belong on the memory's units: placements, gains, area splits.

What ``evaluate_step`` decides call by call is laid open here, for maps over batch, context, group
size and hardware.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError
from archsim.hardware import Machine, load_machine, resolve_node
from archsim.hardware.carbon import bill
from archsim.system.llm import collectives
from archsim.system.llm.calls import Call, end_calls
from archsim.system.llm.evaluate import evaluate_step
from archsim.system.llm.mixed import Share, StepCalls, grid_of
from archsim.system.llm.pim import TAKEN, PimPricer, pim_engine
from archsim.system.llm.plan import Plan
from archsim.system.llm.pricing import pricer_for
from archsim.system.llm.rows import Plans
from archsim.workload.architecture import Attention
from archsim.workload.huggingface import load_model
from archsim.workload.language import LanguageModel
from archsim.workload.steps import Bits

Floats = NDArray[np.float64]
#: Operations of a step by the names of their calls, as maps show them.
OPERATIONS = {
    "projections": ("mixer.qkv", "mixer.out"),
    "attention": ("mixer.attend", "mixer.0.attend"),
    "prompt attention": ("mixer.1.attend",),
    "dense feed-forward": ("mlp.up", "mlp.down"),
    "experts": ("moe.experts",),
    "output": ("head",),
}


@dataclass(frozen=True, eq=False)
class Placement:
    """Calls of one name in a step, on one device; float64[B].

    Attributes:
        name: Of the calls.
        kind: What they are.
        seconds: Of all of them in a pass.
        xpu_s, pim_s: Time of each engine in it; ``links_s`` that of links.
        share: Of the operations, on the memory's units.
        intensity: Operations a byte of weights or cache.
    """

    name: str
    kind: str
    seconds: Floats
    xpu_s: Floats
    pim_s: Floats
    links_s: Floats
    share: Floats
    intensity: Floats


def _found(model: LanguageModel | str, machine: Machine | str) -> tuple[LanguageModel, Machine]:
    chip = load_machine(machine) if isinstance(machine, str) else machine
    return (load_model(model) if isinstance(model, str) else model), chip


def placements(
    model: LanguageModel | str,
    machine: Machine | str,
    *,
    batch: ArrayLike = 1,
    context: ArrayLike = 1,
    new: ArrayLike = 1,
    plan: Plan | str = "tp1",
    bits: Bits | None = None,
    beside: Sequence[Share] = (),
) -> list[Placement]:
    """Where the calls of steps run; sizes broadcast to B rows.

    Attention of mixed steps is placed call by call; what runs at the same time is in
    ``evaluate_step``.

    Raises:
        InputError: A machine without a ``pim`` engine, or what :func:`evaluate_step` refuses.

    Example:
        >>> found = placements("mixtral-8x7b", "duplexx4", batch=[8, 256], context=2048, plan="tp4")
        >>> experts = next(p for p in found if p.name == "moe.experts")
        >>> (experts.share.round(1)).tolist()
        [1.0, 0.2]
    """
    found, chip = _found(model, machine)
    pim_engine(chip)
    evaluate_step(found, chip, batch=batch, context=context, new=new, plan=plan, bits=bits,
                  beside=beside)  # fmt: skip # refuses what is wrong
    node = resolve_node(chip)
    pricer = pricer_for(chip, node, bits or Bits())
    assert isinstance(pricer, PimPricer)
    kinds = [(batch, new, context), *((s.batch, s.new, s.context) for s in beside)]
    columns = np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, float)) for k in kinds for x in k))
    rows = len(columns[0])
    plans = Plans.of(plan).spread(rows)
    sizes = [
        dict(zip(("batch", "new", "context"), columns[3 * i : 3 * i + 3], strict=True))
        for i in range(len(kinds))
    ]
    cuts = {name: plans[name] for name in ("tensor", "data", "expert")}
    grid = grid_of(sizes, cuts, 1.0)
    made = StepCalls(found.architecture, grid, pricer.bits)
    links = collectives.levels(chip, node)
    calls = [
        (call, float(many))
        for layer, many in found.architecture.distinct_layers
        for call in made.of(layer)
    ] + [(call, 1.0) for call in end_calls(found.architecture, grid, pricer.bits)]
    sums: dict[tuple[str, str], NDArray[np.float64]] = {}
    for call, times in calls:
        there = times * (1.0 if call.present is None else call.present.astype(float))
        values = there * _figures(call, pricer, links, rows)
        key = (call.name, call.kind)
        sums[key] = sums[key] + values if key in sums else values
    return [
        Placement(
            name, kind, v[0], v[1], v[2], v[3], v[4] / np.maximum(v[5], 1e-30),
            v[5] / np.maximum(v[6], 1e-30),
        )
        for (name, kind), v in sums.items()
    ]  # fmt: skip


def _figures(call: Call, pricer: PimPricer, links: list[collectives.Level], rows: int) -> Floats:
    """Seconds, of each engine and links, operations in memory and in all, bytes; [7, rows]."""
    out = np.zeros((7, rows))
    if call.kind in ("all_reduce", "all_to_all"):
        out[0] = out[3] = pricer.collective(call, links)[0]
    elif call.kind in TAKEN:
        price, split = pricer.split(call)
        out[0], out[1], out[2] = price.seconds, split.xpu_s, split.pim_s
        out[4], out[5], out[6] = split.share * split.flops, split.flops, split.bytes
    else:
        out[0] = out[1] = pricer.price(call).seconds
    return out


def by_operation(found: Sequence[Placement]) -> dict[str, Placement]:
    """Placements summed up by operation (:data:`OPERATIONS`), those that are there."""
    summed: dict[str, Placement] = {}
    for title, names in OPERATIONS.items():
        mine = [p for p in found if p.name in names]
        if not mine:
            continue
        seconds = np.stack([p.seconds for p in mine])
        whole = seconds.sum(0)

        def total(field: str) -> Floats:
            return np.sum([getattr(p, field) for p in mine], axis=0)  # noqa: B023

        def mean(field: str) -> Floats:
            values = np.stack([getattr(p, field) for p in mine])  # noqa: B023
            return (values * seconds).sum(0) / whole  # noqa: B023

        summed[title] = Placement(
            title, mine[0].kind, whole, total("xpu_s"), total("pim_s"), total("links_s"),
            mean("share"), mean("intensity"),
        )  # fmt: skip
    return summed


def without_units(machine: Machine) -> Machine:
    """The machine with its memory's units switched off."""
    return machine.with_values({f"engines.{pim_engine(machine).name}.policy": "off"})


def grouped(model: LanguageModel, group: int) -> LanguageModel:
    """The model with ``group`` query heads to each key and value head.

    Raises:
        InputError: The group does not divide the heads, or the model has no such attention.
    """
    arch = model.architecture
    mixers = [layer.mixer for layer in arch.layers if isinstance(layer.mixer, Attention)]
    if not mixers or any(mixer.heads % group for mixer in mixers):
        raise InputError(
            "must divide the heads of the model's attention", field="group", found=group,
            expected=", ".join(sorted({str(mixer.heads) for mixer in mixers})) or "attention",
        )  # fmt: skip
    layers = tuple(
        replace(layer, mixer=replace(layer.mixer, kv_heads=layer.mixer.heads // group))
        if isinstance(layer.mixer, Attention)
        else layer
        for layer in arch.layers
    )
    return replace(model, architecture=replace(arch, layers=layers))


@dataclass(frozen=True, eq=False)
class Gains:
    """What memories that compute gain over the same machine without.

    Attributes:
        batch, context: Of the axes.
        group: Query heads to a key head; 0 as the model has them.
        speed: Latency without over latency with, [groups, batches, contexts].
        energy: Energy with over energy without, likewise.
        fits: Whether caches fit, likewise.
    """

    batch: NDArray[np.int64]
    context: NDArray[np.int64]
    group: NDArray[np.int64]
    speed: Floats
    energy: Floats
    fits: NDArray[np.bool_]


def gains(
    model: LanguageModel | str,
    machine: Machine | str,
    batches: Sequence[int],
    contexts: Sequence[int],
    groups: Sequence[int] = (0,),
    plan: Plan | str = "tp1",
) -> Gains:
    """Gain of decode steps over batch, context and group size.

    Raises:
        InputError: As :func:`evaluate_step`, a group that does not divide the heads, or a machine
            without a ``pim`` engine.
    """
    found, chip = _found(model, machine)
    plain = without_units(chip)
    batch, context = (a.ravel() for a in np.meshgrid(batches, contexts, indexing="ij"))
    shape = (len(batches), len(contexts))
    speed, energy, fits = [], [], []
    for group in groups:
        asked = grouped(found, group) if group else found
        sizes: dict[str, Any] = {"batch": batch, "context": context, "plan": plan}
        helped = evaluate_step(asked, chip, **sizes)
        alone = evaluate_step(asked, plain, **sizes)
        speed.append((alone.latency_s / helped.latency_s).reshape(shape))
        energy.append((helped.energy_j / alone.energy_j).reshape(shape))
        fits.append(helped.fits.reshape(shape))
    return Gains(
        np.asarray(batches), np.asarray(contexts), np.asarray(groups), np.stack(speed),
        np.stack(energy), np.stack(fits),
    )  # fmt: skip


#: mm2 of processor for an operation/s: 132 SMs of 4.3 mm2 (an H100 less caches, controllers and
#: links, by subtraction as in scenarios/machines/llm_node.yaml) make 989.4 TFLOPS.
XPU_MM2_PER_FLOP = 132 * 4.3 / 989.4e12


#: Multipliers of a stack that splits of an area are tried with.
MULTIPLIERS = (0.0, *(2048.0 * 2.0 ** (i / 2) for i in range(15)))
#: Logic die of an HBM3 stack (Duplex, MICRO'24).
LOGIC_DIE_MM2 = 121.0


@dataclass(frozen=True, eq=False)
class AreaSplit:
    """Designs of one area: less processor for more units in memory; float64[D].

    Attributes:
        tsv, macs: Of a stack (the TSV multiple, multipliers).
        pim_mm2: Of a device.
        legal: Something is left of the processor, and the units find room on the logic dies.
        xpu_flops_per_s: What is left of the processor.
        latency_s, energy_j: [D, S] of the steps asked for.
        area_mm2: Of a device, the same for all.
    """

    tsv: Floats
    macs: Floats
    pim_mm2: Floats
    legal: NDArray[np.bool_]
    xpu_flops_per_s: Floats
    latency_s: Floats
    energy_j: Floats
    area_mm2: float


def area_splits(
    model: LanguageModel | str,
    machine: Machine | str,
    steps: Sequence[Mapping[str, Any]],
    tsvs: Sequence[float] = (0, 1, 2, 3, 4),
    macs: Sequence[float] = MULTIPLIERS,
    plan: Plan | str = "tp1",
    room: float = 0.25,
) -> AreaSplit:
    """Designs whose processor and units in memory take the area that the machine has.

    Args:
        model: A model.
        machine: With an engine of kind ``xpu`` and one of kind ``pim`` on the logic die.
        steps: Sizes of steps, as ``evaluate_step`` takes them.
        tsvs: TSV multiples; Duplex finds room for four among the power TSVs.
        macs: Multipliers of a stack.
        plan: Of all steps.
        room: Share of a stack's logic die that units may take. Duplex takes 14.71 % of 121 mm2;
            what power and heat allow is not published, so the default is an assumption.

    Raises:
        InputError: As :func:`evaluate_step`, or a machine of another kind.
    """
    found, chip = _found(model, machine)
    xpu = next((e for e in chip.engines if e.kind == "xpu"), None)
    pim = next((e for e in chip.engines if e.kind == "pim"), None)
    if xpu is None or pim is None:
        raise InputError("needs an xpu and a pim engine", source=chip.name, field="engines")
    scale, many = (a.ravel() for a in np.meshgrid(tsvs, macs, indexing="ij"))
    asked = {
        f"engines.{pim.name}.bandwidth_scale": scale.astype(float),
        f"engines.{pim.name}.macs": many.astype(float),
    }
    base = resolve_node(chip)
    area = resolve_node(chip, asked).engines[pim.name]["area_mm2"]
    # Without multipliers or TSVs the stacks are plain ones.
    area = np.where((scale > 0) & (many > 0), area, 0.0)
    rate = float(base.engines[xpu.name][f"rates.{xpu.rates[0].name}.flops_per_s"][0])
    spent = area - float(base.engines[pim.name]["area_mm2"][0])
    left = rate - spent / XPU_MM2_PER_FLOP
    flops = np.maximum(left, 1e9)
    for r in xpu.rates:
        asked[f"engines.{xpu.name}.rates.{r.name}.flops_per_s"] = flops * (r.flops_per_s / rate)
    costs = [
        evaluate_step(found, chip, plan=plan, overrides=asked, strict=False, **step)
        for step in steps
    ]
    stacks = float(base.engines[pim.name]["stacks"][0])
    legal = (left > 0) & (area <= room * LOGIC_DIE_MM2 * stacks)
    total = float(bill(chip, base).area_mm2[0] / base.devices[0])
    return AreaSplit(
        scale.astype(float), many.astype(float), area, legal, left,
        np.stack([c.latency_s for c in costs], axis=1),
        np.stack([c.energy_j for c in costs], axis=1), total,
    )  # fmt: skip
