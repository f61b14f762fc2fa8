"""From a ``Machine`` and arrays of overridden values to an ``EngineTable`` of B designs.

There is one code path: every leaf of the machine is an array of length 1, or of length B where it
is overridden, and NumPy broadcasting does the rest, so what no override touches is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError
from archsim.hardware import components, sram
from archsim.hardware.machine import (
    ROLES,
    Fanout,
    Machine,
    SpatialEngine,
    Storage,
    VectorEngine,
)
from archsim.hardware.table import EngineTable, Floats
from archsim.hardware.tiers import memory_table
from archsim.hardware.values import Values

_MEMORY = memory_table()
_UNLIMITED_BITS = 2.0**53
_STORAGES: tuple[Callable[..., dict[str, Floats]], ...] = (sram.sram, sram.regfile, sram.register)


def _by_code(
    codes: NDArray[np.int64], compute: Callable[[int], dict[str, Floats]]
) -> dict[str, Floats]:
    """Evaluate the alternatives that occur and pick each design's own."""
    present = np.flatnonzero(np.bincount(codes))
    chosen = compute(int(present[0]))
    for code in present[1:]:
        other, mine = compute(int(code)), codes == code
        chosen = {key: np.where(mine, other[key], value) for key, value in chosen.items()}
    return chosen


def _pick(machine: Machine, kind: type, name: str | None, word: str) -> Any:
    found = [engine for engine in machine.engines if isinstance(engine, kind)]
    if name is not None:
        found = [engine for engine in found if engine.name == name]
    if not found:
        kinds = ", ".join(sorted({engine.kind for engine in machine.engines}))
        raise InputError(
            f"this machine has no {word} engine"
            + (f" named {name!r}" if name else "")
            + "; mapping layers onto an array needs one",
            source=machine.name,
            field="engines",
            found=kinds,
        )
    return found[0]


def resolve(
    machine: Machine,
    overrides: Mapping[str, ArrayLike] | None = None,
    *,
    engine: str | None = None,
    vector: str | None = None,
) -> EngineTable:
    """Numbers of one spatial engine, its backing tier and a vector engine, for B designs at once.

    Args:
        machine: The base machine.
        overrides: Values by dotted path: numbers, or strings for enumerations; scalars or arrays
            of one common length B. NaN in an optional value means "derive it".
        engine: Name of the spatial engine; the first one by default.
        vector: Name of the vector engine; the first one by default.

    Returns:
        The table of B designs (B = 1 without array overrides). Area counts this engine, this
        vector engine and the PHY of the backing tier. Values the schema would refuse, and designs
        that contradict themselves, are marked in ``problems``; their numbers stay finite.

    Raises:
        InputError: Unknown path (names near ones) or unknown string, arrays of different length, a
            machine without a spatial or a vector engine, or one of several devices and no engine
            named.
    """
    spatial: SpatialEngine = _pick(machine, SpatialEngine, engine, "spatial")
    if engine is None and machine.instances() > 1:
        raise InputError(
            "this machine has several devices, and the layer mapper knows one; name the engine to "
            "resolve one of them, or set the counts of the groups to 1",
            source=machine.name,
            field="groups",
            found=machine.instances(),
        )
    lanes: VectorEngine = _pick(machine, VectorEngine, vector, "vector")
    values = Values(machine, spatial.name, overrides or {})
    home = f"engines.{spatial.name}."
    bits = {role: values(f"{home}precision.{role}_bits") for role in _WIDTHS}
    shared = ("technology_nm", f"{home}precision.")
    tier = f"tiers.{spatial.backing}."
    slots = [values.part(tier, ("clock_hz",), lambda: _tier(values, tier))]
    for slot in spatial.slots:
        make = partial(_slot, values, f"{home}slots.{slot.name}.", slot, bits)
        slots.append(values.part(f"{home}slots.{slot.name}.", shared, make))
    mac = values.part(
        f"{home}mac.", shared, lambda: _mac(values, f"{home}mac.", bits, spatial.mac.serial)
    )
    _network(values, spatial, slots, mac, bits)
    lane = f"engines.{lanes.name}."
    simd = values.part(lane, shared, lambda: _vector(values, lane, bits))
    areas = _areas(values, spatial, slots, mac, simd)
    clock, limit = values("clock_hz"), _max_clock(spatial, slots, mac)
    values.flag("clock_hz exceeds what the MAC or the storage beside it can follow", clock > limit)
    return _assemble(machine, spatial, values, slots, mac, simd, areas, bits, clock, limit)


_WIDTHS = (*ROLES, "accumulator")
_COLUMNS = (
    "capacity_bits", "block_bits", "read_energy_j", "write_energy_j", "leakage_w",
    "read_bits_per_cycle", "write_bits_per_cycle", "shared_bits_per_cycle",
    "hop_energy_j_per_bit", "instances",
)  # fmt: skip
_ZERO, _ONE, _INF = np.zeros(1), np.ones(1), np.full(1, np.inf)


def _tier(values: Values, path: str) -> dict[str, Floats]:
    kind, channels = values(path + "kind"), values(path + "channels")

    def figure(field: str, column: str, per_channel: bool) -> Floats:
        default = _MEMORY[column][kind] * (channels if per_channel else 1.0)
        return values.or_else(path + field, default)

    bandwidth = figure("bandwidth_bytes_per_s", "bandwidth_bytes_per_s", True)
    read = figure("read_energy_j_per_bit", "energy_j_per_bit", False)
    incomplete = np.isnan(bandwidth) | np.isnan(read)
    values.flag(f"{path}kind custom needs bandwidth and energy", incomplete)
    bandwidth, read = np.where(np.isnan(bandwidth), 1.0, bandwidth), np.nan_to_num(read)
    writing = values.or_else(path + "write_bandwidth_bytes_per_s", np.full(1, np.inf))
    write = values.or_else(path + "write_energy_j_per_bit", read)
    burst = figure("burst_bits", "burst_bits", False)
    capacity = values(path + "capacity_bytes") * 8.0
    return {
        "capacity_bits": np.where(capacity > _UNLIMITED_BITS, np.inf, capacity),
        "block_bits": burst,
        "read_energy_j": read * burst,
        "write_energy_j": write * burst,
        "leakage_w": figure("background_power_w", "background_power_w", True),
        "read_bits_per_cycle": _INF,
        "write_bits_per_cycle": writing * 8.0 / values("clock_hz"),
        "shared_bits_per_cycle": bandwidth * 8.0 / values("clock_hz"),
        "hop_energy_j_per_bit": _ZERO,
        "fanout": _ONE,
        "instances": _ONE,
        "bandwidth": bandwidth,
        "latency": figure("latency_s", "latency_s", False),
        "area_mm2": figure("phy_area_mm2", "phy_area_mm2", True),
    }


def _slot(
    values: Values, path: str, slot: Storage | Fanout, bits: dict[str, Floats]
) -> dict[str, Floats]:
    if isinstance(slot, Fanout):
        return {
            "capacity_bits": _ZERO, "block_bits": _ONE, "read_energy_j": _ZERO,
            "write_energy_j": _ZERO, "read_bits_per_cycle": _INF, "write_bits_per_cycle": _INF,
            "shared_bits_per_cycle": _INF, "fanout": values(path + "fanout"),
            "hop_cycles": values(path + "network.hop_cycles"),
        }  # fmt: skip
    capacity = values(path + "capacity_bytes") * 8.0
    width, banks = values(path + "width_bits"), values(path + "banks")
    words = [bits[role] for role in slot.keeps]
    values.flag(f"{slot.name} is narrower than a word it keeps", width < _largest(words))
    row, double = width * banks, values(path + "double_buffered")
    usable = capacity * (1.0 - 0.5 * double)
    values.flag(f"{slot.name} cannot hold one word", usable < _largest(words))
    values.flag(f"{slot.name} is smaller than one access of all its banks", capacity < row)
    node = values.node
    array = _by_code(
        values(path + "component"), lambda code: _STORAGES[code](capacity, width, banks, node)
    )
    return {
        "capacity_bits": usable,
        "block_bits": width,
        "read_energy_j": values.or_else(path + "read_energy_j", array["read_energy_j"]),
        "write_energy_j": values.or_else(path + "write_energy_j", array["write_energy_j"]),
        "leakage_w": values.or_else(path + "leakage_w", array["leakage_w"]),
        "read_bits_per_cycle": values.or_else(path + "read_bandwidth_bits_per_cycle", row),
        "write_bits_per_cycle": values.or_else(path + "write_bandwidth_bits_per_cycle", row),
        "shared_bits_per_cycle": _INF,
        "hop_energy_j_per_bit": _ZERO,
        "fanout": _ONE,
        "area_mm2": values.or_else(path + "area_mm2", array["area_mm2"]),
        "delay_s": array["delay_s"],
    }


def _largest(words: list[Floats]) -> Floats:
    result = _ONE
    for word in words:
        result = np.maximum(result, word)
    return result


def _mac(
    values: Values, path: str, bits: dict[str, Floats], serial: tuple[str, ...]
) -> dict[str, Floats]:
    """A unit's figures a MAC; a serial one is a narrower unit that takes several steps for it."""
    node, steps = values.node, _ONE
    widths = {"input": bits["input"], "weight": bits["weight"]}
    if serial:
        values.flag("a floating-point MAC cannot be serial", values(path + "component") == 2)
    for role in serial:
        digit = np.minimum(values(path + "digit_bits"), widths[role])
        steps = steps * np.ceil(widths[role] / digit)
        widths[role] = digit
    a, b, total = widths["input"], widths["weight"], bits["accumulator"]

    def unit(code: int) -> dict[str, Floats]:
        if code < 2:
            maker = components.int_mac if code == 0 else components.int_mac_dense
            return maker(a, b, total, node)
        given = path + "mantissa_bits"
        significands = (
            values.or_else(given, components.significand_bits(a)),
            values.or_else(given, components.significand_bits(b)),
            np.maximum(
                components.significand_bits(np.minimum(total, 64.0)), values.or_else(given, 1.0)
            ),
        )
        return components.fp_mac(*significands, node)

    made = _by_code(values(path + "component"), unit)
    return {
        "energy_j": values.or_else(path + "energy_j", made["energy_j"] * steps),
        "leakage_w": values.or_else(path + "leakage_w", made["leakage_w"]),
        "area_mm2": values.or_else(path + "area_mm2", made["area_mm2"]),
        "delay_s": made["delay_s"],
        "cycles": values(path + "cycles") * steps,
    }


def _network(
    values: Values,
    engine: SpatialEngine,
    slots: list[dict[str, Floats]],
    mac: dict[str, Floats],
    bits: dict[str, Floats],
) -> None:
    """Instances outer to inner, then child pitch, hop energy and network area inner to outer."""
    instances = _ONE
    for slot in slots[1:]:
        slot["instances"] = instances
        instances = instances * slot["fanout"]
    mac["instances"] = instances
    node = values.node
    carried = bits["input"] + bits["weight"] + bits["accumulator"]
    subtree = mac["area_mm2"]
    for definition, slot in zip(reversed(engine.slots), reversed(slots[1:]), strict=True):
        if not isinstance(definition, Fanout):
            subtree = subtree + slot["area_mm2"]
            continue
        path = f"engines.{engine.name}.slots.{definition.name}.network."
        kind = values(path + "kind")
        area = components.hop_area_mm2(kind, carried, node) * slot["fanout"]
        hop = components.hop_energy_j_per_bit(kind, np.sqrt(subtree), node)
        slot["hop_energy_j_per_bit"] = values.or_else(path + "hop_energy_j_per_bit", hop)
        slot["leakage_w"] = components.hop_leakage_w(kind, carried, node) * slot["fanout"]
        slot["area_mm2"] = area
        subtree = subtree * slot["fanout"] + area


def _vector(values: Values, path: str, bits: dict[str, Floats]) -> dict[str, Floats]:
    node = values.node
    lanes, registers = values(path + "lanes"), values(path + "registers")
    lane = _by_code(
        values(path + "component"),
        lambda code: components.vector_lane(bits["output"], registers, node, code == 1),
    )
    return {
        "lanes": lanes,
        "energy_j": values.or_else(path + "op_energy_j", lane["energy_j"]),
        "leakage_w": values.or_else(path + "leakage_w", lane["leakage_w"] * lanes),
        "area_mm2": values.or_else(path + "area_mm2", lane["area_mm2"] * lanes),
    }


def _areas(
    values: Values,
    engine: SpatialEngine,
    slots: list[dict[str, Floats]],
    mac: dict[str, Floats],
    simd: dict[str, Floats],
) -> dict[str, Floats]:
    areas: dict[str, Floats] = {}
    network = _ZERO
    for definition, slot in zip(engine.slots, slots[1:], strict=True):
        area = slot["area_mm2"] * slot["instances"]
        if isinstance(definition, Fanout):
            network = network + area
        else:
            areas[definition.name] = area
    areas["mac"] = mac["area_mm2"] * mac["instances"]
    areas["simd"] = simd["area_mm2"]
    areas["network"] = network
    areas["overhead"] = values("area_overhead") * sum(areas.values())
    areas["dram_phy"] = slots[0]["area_mm2"]
    return areas


def _max_clock(
    engine: SpatialEngine, slots: list[dict[str, Floats]], mac: dict[str, Floats]
) -> Floats:
    """Slowest of the MAC and the storages inside the innermost fanout."""
    delay = mac["delay_s"]
    for definition, slot in zip(reversed(engine.slots), reversed(slots[1:]), strict=True):
        if isinstance(definition, Fanout):
            break
        delay = np.maximum(delay, slot["delay_s"])
    return 1.0 / delay


def _assemble(
    machine: Machine,
    engine: SpatialEngine,
    values: Values,
    slots: list[dict[str, Floats]],
    mac: dict[str, Floats],
    simd: dict[str, Floats],
    areas: dict[str, Floats],
    bits: dict[str, Floats],
    clock: Floats,
    limit: Floats,
) -> EngineTable:
    count = values.designs

    def spread(column: NDArray[Any]) -> NDArray[Any]:
        return np.array(np.broadcast_to(column, (count,)))

    def stacked(columns: list[NDArray[Any]], dtype: type = np.float64) -> NDArray[Any]:
        out: NDArray[Any] = np.empty((count, len(columns)), dtype=dtype)
        for index, column in enumerate(columns):
            out[:, index] = column
        return out

    tier = next(tier for tier in machine.tiers if tier.name == engine.backing)
    keeps = np.zeros((len(slots), 3), dtype=bool)
    keeps[0] = True
    for index, slot in enumerate(engine.slots, start=1):
        if isinstance(slot, Storage):
            keeps[index] = [role in slot.keeps for role in ROLES]
    area = {name: spread(column) for name, column in areas.items()}
    return EngineTable(
        machine=machine.name,
        engine=engine.name,
        names=(engine.backing, *(slot.name for slot in engine.slots)),
        spatial=np.array([False, *(isinstance(slot, Fanout) for slot in engine.slots)]),
        axis=("", *(slot.axis if isinstance(slot, Fanout) else "" for slot in engine.slots)),
        keeps=keeps,
        fanout=stacked([slot["fanout"] for slot in slots], np.int64),
        **{name: stacked([slot[name] for slot in slots]) for name in _COLUMNS},
        bits=stacked([bits[role] for role in _WIDTHS]),
        mac_energy_j=spread(mac["energy_j"]),
        mac_leakage_w=spread(mac["leakage_w"]),
        mac_cycles=spread(mac["cycles"]),
        macs=spread(mac["instances"]),
        clock_hz=spread(clock),
        max_clock_hz=spread(limit),
        dataflow=spread(values(f"engines.{engine.name}.dataflow")).astype(np.int64),
        vector_lanes=spread(simd["lanes"]),
        vector_op_energy_j=spread(simd["energy_j"]),
        vector_leakage_w=spread(simd["leakage_w"]),
        area_mm2=area,
        total_area_mm2=sum(area.values(), np.zeros(count)),
        tier_bandwidth_bytes_per_s=spread(slots[0]["bandwidth"]),
        tier_latency_s=spread(slots[0]["latency"]),
        problems={reason: spread(mask) for reason, mask in values.problems.items()},
        hop_cycles=stacked([slot.get("hop_cycles", _ZERO) for slot in slots]),
        peer_links=(
            False,
            *(isinstance(slot, Fanout) and slot.network.peer_links for slot in engine.slots),
        ),
        sparse=(tier.sparse, *(getattr(slot, "sparse", None) for slot in engine.slots)),
        mac_sparse=engine.mac.sparse,
    )
