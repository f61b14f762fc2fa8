"""Collective communication among GPUs that a switch or links join with one another.

NCCL's ring passes ``n - 1`` times (all-gather, reduce-scatter) or ``2 (n - 1)`` times (all-reduce)
the share ``1 / n`` of the message around. Each of its protocols has a start, a latency a step and a
share of the link's rate: few bytes at once with flags beside the data (``low_latency``), more at
once, and large buffers with synchronisation between them (``simple``); the cheapest runs. Small
messages pass through one channel (a thread block each); from ``CHANNEL_BYTES`` of traffic on there
are several, which start later and whose steps wait for the slowest. A switch
that adds up (NVLink SHARP) needs every byte once, at ``n >= 8`` where NCCL uses it. In an
all-to-all every pair exchanges directly. A tree halves the members per step. Expert dispatch and
combine (DeepEP) start once and are bound by the link.

``message_bytes`` is what one member holds in full: of an all-reduce its operand, of an all-gather
its result, of a reduce-scatter its operand, of an all-to-all all it sends, to itself included.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import InputError
from archsim.models.gpu.constants import GpuConstants, constants_for
from archsim.models.gpu.cost import GpuCost
from archsim.models.gpu.device import GpuDevice

Floats = NDArray[np.float64]
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "dispatch", "combine")
ALGORITHMS = ("auto", "ring", "tree", "switch", "custom")
#: What one thread block of a custom all-reduce moves at once: 512 threads with 16 bytes each. Its
#: barrier with the peers costs more where other blocks wait for theirs.
BLOCK_BYTES = 8192.0
#: Traffic of a collective from which on NCCL gives it several channels (``MinTrafficPerChannel`` in
#: ``src/enqueue.cc`` of NCCL 2.27); an all-reduce's traffic counts twice its message.
CHANNEL_BYTES = 32768.0
#: NCCL reduces in the switch from this many members on.
SWITCH_MEMBERS = 8


def _protocols(
    p: dict[str, float], steps: Floats, wire: Floats, rate: Floats, traffic: Floats
) -> Floats:
    """Cheapest of the protocols for a number of steps and bytes through one member's link."""
    several = p["channels_start_s"] + steps * p["channels_step_s"]
    few = steps * p["low_latency_step_s"] + np.where(traffic >= CHANNEL_BYTES, several, 0.0)
    few = few + wire / (rate * p["low_latency_efficiency"])
    more = p["medium_start_s"] + steps * p["medium_step_s"] + wire / (rate * p["medium_efficiency"])
    bulk = p["simple_start_s"] + steps * p["simple_step_s"] + wire / (rate * p["simple_efficiency"])
    return p["start_s"] + np.minimum(few, np.minimum(more, bulk))


def evaluate_collective(
    device: GpuDevice,
    kind: str,
    members: ArrayLike,
    message_bytes: ArrayLike,
    *,
    algorithm: str = "auto",
    bandwidth_bytes_per_s: ArrayLike | None = None,
    latency_s: ArrayLike = 0.0,
    constants: GpuConstants | None = None,
) -> GpuCost:
    """Latency and energy of one collective.

    Args:
        device: One of the members.
        kind: One of :data:`COLLECTIVES`; ``dispatch`` and ``combine`` are DeepEP's low-latency
            kernels, with ``message_bytes`` all that one member sends (copies included).
        members: GPUs taking part.
        message_bytes: See the module.
        algorithm: ``auto`` (NCCL's choice), ``ring``, ``tree``, ``switch`` (the switch adds up), or
            ``custom`` (the one- and two-step kernels of serving engines, all-reduce only).
        bandwidth_bytes_per_s: Of one member's links, one direction; default the device's.
        latency_s: Added to every step, e.g. of a network between nodes.
        constants: Calibrated constants; default those of the device's generation.

    Raises:
        InputError: An option is unknown, there are no members, or no link.

    Example:
        >>> from archsim.models.gpu import gpu_device
        >>> cost = evaluate_collective(gpu_device("h100"), "all_reduce", 8, 2**29)
        >>> 1.8 < float(cost.latency_s) * 1e3 < 2.4
        True
    """
    for name, value, known in (("kind", kind, COLLECTIVES), ("algorithm", algorithm, ALGORITHMS)):
        if value not in known:
            raise InputError(f"unknown {name}", found=value, expected=", ".join(known))
    if algorithm not in ("auto", "ring") and kind != "all_reduce":
        raise InputError("this algorithm is for an all-reduce", field="algorithm", found=algorithm)
    given: ArrayLike = device.link_bandwidth_bytes_per_s
    if bandwidth_bytes_per_s is not None:
        given = bandwidth_bytes_per_s
    arguments = (members, message_bytes, given, latency_s)
    shape = np.broadcast_shapes(device.shape, *(np.shape(x) for x in arguments))
    device = device.rows(shape)
    n, size, rate, hop = (
        np.broadcast_to(np.asarray(x, float), shape).reshape(-1) for x in arguments
    )
    if n.size and not (n.min() >= 1 and size.min() >= 0 and np.isfinite(size).all()):
        raise InputError("members must be at least 1 and bytes not negative", field="members")
    if rate.size and not rate.min() > 0:
        raise InputError(f"{device.name} has no link to its peers", field="bandwidth_bytes_per_s")
    p = dict((constants or constants_for(device)).kernel("collective"))
    share = size * (n - 1) / n
    if kind in ("dispatch", "combine"):
        wire, steps = share, np.ones_like(n)
        latency = p[f"{kind}_start_s"] + hop + share / (rate * p[f"{kind}_efficiency"])
    elif kind == "all_to_all":
        wire, steps = share, np.ones_like(n)
        few = p["exchange_step_s"] + share / (rate * p["low_latency_efficiency"])
        bulk = p["medium_start_s"] + p["exchange_start_s"] + share / (rate * p["simple_efficiency"])
        latency = p["start_s"] + hop + np.minimum(few, bulk)
    else:
        wire = share * (2.0 if kind == "all_reduce" else 1.0)
        steps = (n - 1) * (2.0 if kind == "all_reduce" else 1.0)
        traffic = size * (2.0 if kind == "all_reduce" else 1.0)
        latency = _protocols(p, steps, wire, rate, traffic) + steps * hop
        if kind == "all_reduce":
            latency, wire = _all_reduce(p, device, algorithm, n, size, rate, hop, latency, wire)
    latency = np.where(n > 1, latency, 0.0)
    moved = np.where(n > 1, wire, 0.0)
    joules = moved * device.link_j_per_byte + 2.0 * moved * device.memory_j_per_byte
    return GpuCost.of_rows(
        shape, device, latency, joules, np.zeros(n.shape), 2.0 * moved,
        {"link_s": moved / rate, "steps_s": latency - moved / rate},
    )  # fmt: skip


def _all_reduce(
    p: dict[str, float], device: GpuDevice, algorithm: str, n: Floats, size: Floats, rate: Floats,
    hop: Floats, ring: Floats, wire: Floats,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Latency and bytes through one member's link of an all-reduce by the other algorithms."""
    once = size * (1.0 + 1.0 / n)
    # where links have a rate, every byte goes to the switch and the sum comes back
    switch = p["start_s"] + p["switch_start_s"] + 2 * hop + size / (rate * p["switch_efficiency"])
    depth = 2.0 * np.ceil(np.log2(np.maximum(n, 2)))
    tree = _protocols(p, depth, 2.0 * size, rate, 2.0 * size) + depth * hop
    if algorithm == "tree":
        return tree, 2.0 * size
    if algorithm == "switch":
        return switch, once
    if algorithm == "custom":
        one = size * (n - 1) / (rate * p["custom_efficiency"])
        two = p["custom_step_s"] + wire / (rate * p["custom_efficiency"])
        met = p["custom_member_s"] + p["custom_block_s"] * np.minimum(size / BLOCK_BYTES, 1.0)
        return p["custom_start_s"] + (n - 1) * met + np.minimum(one, two), wire
    if algorithm == "ring":
        return ring, wire
    able = device.link_reduces & (n >= SWITCH_MEMBERS)
    better = able & (switch < ring)
    return np.where(better, switch, ring), np.where(better, once, wire)
