"""DRAM model beside DRAMSys, DRAMsim3 and Ramulator 2, request by request where they tell.

Every simulator is compared under its own address mapping, controller and timing distances.
"""

from __future__ import annotations

import csv
import functools
import gzip
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from archsim.validate.references import references, table

TRACES = ("stream", "random", "cloud-1", "cloud-2")
PATTERNS = ("stream_read", "random_read", "random_mixed_2r1w")
GAPS = (0, 20)
#: DRAMSys allows an activate tRCD after the last one of the bank where JEDEC asks for tRC, which
#: shows where rows are closed with an auto-precharge; its rows are compared with that distance.
DRAMSYS_DDR4 = {"ACT_TO_ACT": "RCD"}


@dataclass(frozen=True)
class Line:
    """One requirement: what was found beside what is asked for."""

    name: str
    found: str
    asked: str
    holds: bool


def validate_dram() -> bool:
    """Print every comparison; False if a requirement is missed."""
    folder = references("dram")
    lines: list[Line] = []
    for compare in (_v51, _archgym_random, _archgym_sweep, _requests, _dramsim3, _ramulator):
        lines += compare(folder)
        print()
    rows = [(x.name, x.found, x.asked, "yes" if x.holds else "NO") for x in lines]
    print(table(("requirement", "found", "asked", "holds"), rows))
    return all(line.holds for line in lines)


# --- ArchGym's environment: DRAMSys 5.1 and the 4.0 binary --------------------------------------


def policy_of(row: dict[str, str], release: str):
    """Controller of a row of the reference tables."""
    from archsim.models.dram.policy import Policy

    return Policy.model_validate(
        {
            "page": row["PagePolicy"],
            "scheduler": row["Scheduler"],
            "buffer": row["SchedulerBuffer"],
            "depth": int(row["RequestBufferSize"]),
            "response": row["RespQueue"],
            "refresh": row["RefreshPolicy"],
            "max_postponed": int(row["RefreshMaxPostponed"]),
            "max_pulled_in": int(row["RefreshMaxPulledin"]),
            "arbiter": row["Arbiter"],
            "max_active": int(row["MaxActiveTransactions"]),
            "dramsys": release,
        }
    )


@functools.cache
def workbench(folder: Path, trace: str):
    """One of ArchGym's traces on its memory."""
    from archsim.models.dram.simulate import Workbench
    from archsim.models.dram.spec import load_spec
    from archsim.models.dram.trace import read_trace

    return Workbench(
        load_spec("ddr3_1600_1gb_x8"), read_trace(folder / "traces" / f"archgym_{trace}.stl.gz")
    )


def errors(
    folder: Path, rows: list[dict[str, str]], release: str, time: str, unit_s: float
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Relative errors of time and energy of designs, by trace."""
    out = {}
    energy = "v51_energy_pJ" if "v51_energy_pJ" in rows[0] else "energy_pJ"
    for trace in TRACES:
        mine = [r for r in rows if r["trace"].removesuffix(".stl") == trace]
        if not mine:
            continue
        vectors = np.array([policy_of(r, release).vector() for r in mine])
        ours = workbench(folder, trace).evaluate(vectors)
        theirs = np.array([float(r[time]) for r in mine]) * unit_s
        joules = np.array([float(r[energy]) for r in mine]) * 1e-12
        # Times are whole cycles: what differs by less than a thousandth of one is the same.
        wrong = np.abs(ours.time_s - theirs)
        wrong[wrong < 1e-12] = 0.0
        out[trace] = (wrong / theirs, np.abs(ours.energy_j / joules - 1))
    return out


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row.get("rc", "0") == "0"]


def _show(title: str, found: dict[str, tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Print one table of design errors; returns both over all traces."""
    print(title)
    every = np.concatenate([np.stack(pair) for pair in found.values()], axis=1)
    rows = []
    for name in (*found, "all"):
        time, energy = found.get(name, (every[0], every[1]))
        rows.append(
            (
                name,
                time.size,
                f"{(time == 0).mean():.1%}",
                f"{(time <= 1e-3).mean():.1%}",
                f"{np.median(time):.4%}",
                f"{time.mean():.4%}",
                f"{time.max():.3%}",
                f"{energy.mean():.4%}",
                f"{energy.max():.3%}",
            )
        )
    heads = ("trace", "designs", "identical", "<= 0.1%", "median", "mean", "worst")
    print(table((*heads, "energy mean", "energy worst"), rows))
    return every


def _v51(folder: Path) -> list[Line]:
    rows = _rows(folder / "dramsys" / "v51_200.csv")
    found = errors(folder, rows, "5.1", "v51_time_ps", 1e-12)
    time, energy = _show("DRAMSys 5.1, ArchGym's memory and traces: makespan and energy", found)
    return [
        _share("DRAMSys 5.1: makespan identical", (time == 0).mean(), 0.9),
        _share("DRAMSys 5.1: makespan within 0.1 %", (time <= 1e-3).mean(), 0.99),
        _limit("DRAMSys 5.1: worst energy error", energy.max(), 0.01),
    ]


def _archgym_random(folder: Path) -> list[Line]:
    rows = _rows(folder / "dramsys" / "archgym_random_1000.csv")
    found = errors(folder, rows, "4.0", "total_time_ns", 1e-9)
    time, _ = _show("ArchGym's binary (DRAMSys 4.0), random designs of the full space", found)
    return _binary("ArchGym random designs", time)


def _archgym_sweep(folder: Path) -> list[Line]:
    rows = _rows(folder / "dramsys" / "archgym_binary_sweep.csv")
    found = errors(folder, rows, "4.0", "total_time_ps", 1e-12)
    time, _ = _show("ArchGym's binary (DRAMSys 4.0), sweep", found)
    return _binary("ArchGym sweep", time)


def _binary(name: str, time: np.ndarray) -> list[Line]:
    return [
        _limit(f"{name}: median makespan error", float(np.median(time)), 2e-4),
        _limit(f"{name}: mean makespan error", float(time.mean()), 4e-3),
    ]


def _share(name: str, found: float, asked: float) -> Line:
    return Line(name, f"{found:.2%}", f">= {asked:.1%}", bool(found >= asked))


def _limit(name: str, found: float, asked: float) -> Line:
    return Line(name, f"{found:.4%}", f"<= {asked:.2%}", bool(found <= asked))


# --- request by request -------------------------------------------------------------------------


def trace_of(folder: Path, pattern: str, gap: int, requests: int | None = None):
    """One of the shared traces, offered every ``gap`` cycles."""
    from archsim.models.dram.trace import Trace, read_trace

    full = read_trace(folder / "traces" / f"{pattern}.csv.gz", gap=gap)
    end = requests or len(full)
    return Trace(full.arrival[:end], full.write[:end], full.address[:end], f"{pattern}, gap {gap}")


def pairs(path: Path) -> np.ndarray:
    """Two whole numbers a line, after a heading, of a compressed file: int64[n, 2]."""
    with gzip.open(path, "rt", encoding="ascii") as file:
        return np.loadtxt(file, delimiter=",", skiprows=1, dtype=np.int64)


def dramsys_ddr4():
    """The DDR4 memory with DRAMSys's distances."""
    from archsim.models.dram.spec import load_spec

    spec = load_spec("ddr4_2400_4gb_x8")
    return load_spec(spec.model_dump() | {"timing": spec.timing | DRAMSYS_DDR4})


def _requests(folder: Path) -> list[Line]:
    from archsim.models.dram.policy import Policy
    from archsim.models.dram.simulate import simulate
    from archsim.models.dram.spec import load_spec

    print("DRAMSys 5.1, 20,000 requests: times of request and response, command counts, energy")
    summary = json.loads((folder / "dramsys" / "latency_summary.json").read_text())
    rows, same, response, counted = [], [], [], []
    for case, theirs in summary.items():
        memory, pattern, gap = case.split("__")
        hbm = memory.startswith("HBM2")
        policy = Policy(
            page="Closed" if "Closed" in memory else "Open",
            max_postponed=8,
            max_pulled_in=8,
            max_active=128,
        )
        ours = simulate(
            load_spec("hbm2_2000_8gb") if hbm else dramsys_ddr4(),
            trace_of(folder, pattern, int(gap[3:]), theirs["requests"]),
            policy,
            mapping=f"{'rank-' if hbm else ''}{'group-bank' if hbm else 'bank-group'}-row-column",
        )
        time = ours.time_s / _seconds(theirs["total_time_ps"]) - 1
        latency = ours.latency_s * 1e9 / theirs["avg_read_latency_ns"] - 1
        energy = ours.energy_j * 1e12 / theirs["energy_pJ"] - 1 if theirs["energy_pJ"] else None
        path = folder / "dramsys" / f"{case}__perreq20k.csv.gz"
        share = "-"
        if path.is_file():
            clock = round(ours.spec.clock_ps)
            listed = pairs(path)
            right = listed == np.stack([ours.begin, ours.end], 1)[: len(listed)] * clock
            response.append(right[:, 1].mean())
            share = f"{right.all(1).mean():.2%}"
        same.append(abs(time))
        counted.append(abs(latency))
        joules = "-" if energy is None else f"{energy:+.3%}"
        rows.append((case, share, f"{time:+.4%}", f"{latency:+.4%}", joules))
    print(table(("case", "identical", "makespan", "mean read latency", "energy"), rows))
    return [
        _share("DRAMSys 5.1: responses in the same cycle, worst case", min(response), 0.999),
        _limit("DRAMSys 5.1: worst makespan error, DDR4 and HBM2", max(same), 1e-3),
        _limit("DRAMSys 5.1: worst mean read latency error", max(counted), 1e-2),
    ]


def _seconds(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"ps": 1e-12, "ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}[unit]


@dataclass(frozen=True)
class Case:
    """One run of DRAMsim3 or Ramulator beside ours."""

    name: str
    identical: float
    finish: float
    latency: float
    hits: float
    energy: float | None


def case_of(folder: Path, simulator: str, memory: str, preset: str, pattern: str, gap: int) -> Case:
    """Compare one run.

    Args:
        folder: Reference data of the DRAM models.
        simulator: ``dramsim3`` or ``ramulator2``.
        memory: Name of the memory there.
        preset: The same memory here.
        pattern, gap: The trace.
    """
    from archsim.models.dram.policy import DRAMsim3Policy, RamulatorPolicy
    from archsim.models.dram.simulate import simulate
    from archsim.models.dram.spec import load_spec

    spec = load_spec(preset)
    policy = DRAMsim3Policy() if simulator == "dramsim3" else RamulatorPolicy()
    ours = simulate(spec, trace_of(folder, pattern, gap), policy)
    run = folder / simulator / f"{memory}__{pattern}__gap{gap}"
    theirs = json.loads((run / "summary.json").read_text())
    listed = pairs(run / "perreq.csv.gz")
    begin, latency = np.cumsum(listed[:, 0]), listed[:, 1]
    energy = None
    if simulator == "dramsim3":
        stats = json.loads((run / "dramsim3.json").read_text())["0"]
        hits = stats["num_read_row_hits"] + stats["num_write_row_hits"]
        # The energy counters lack the clock period.
        energy = ours.energy_j / (stats["total_energy"] * spec.clock_ps * 1e-15) - 1
    else:
        found = re.search(r"^\s*row_hits: (\d+)", (run / "stats.yaml").read_text(), re.MULTILINE)
        hits = int(found.group(1)) if found else -1
    mean = theirs["avg_read_latency_cycles_from_accept"]
    return Case(
        f"{memory} {pattern} gap {gap}",
        float(((begin == ours.begin) & (latency == ours.end - ours.begin)).mean()),
        ours.cycles / theirs["finish_cycle"] - 1,
        ours.read_latency_cycles / mean - 1,
        (ours.row_hits - hits) / max(hits, 1),
        energy,
    )


def _others(folder: Path, simulator: str, name: str, memories: dict[str, str]) -> list[Line]:
    print(f"{name}: every request's acceptance and latency, and the totals")
    cases = [
        case_of(folder, simulator, memory, preset, pattern, gap)
        for memory, preset in memories.items()
        for pattern in PATTERNS
        for gap in GAPS
    ]
    rows = [
        (
            c.name,
            f"{c.identical:.2%}",
            f"{c.finish:+.4%}",
            f"{c.latency:+.4%}",
            f"{c.hits:+.3%}",
            "-" if c.energy is None else f"{c.energy:+.4%}",
        )
        for c in cases
    ]
    heads = ("case", "identical", "finish cycle", "mean read latency", "row hits", "energy")
    print(table(heads, rows))
    lines = [
        _limit(f"{name}: worst finish cycle error", max(abs(c.finish) for c in cases), 0.02),
        _limit(f"{name}: worst mean read latency error", max(abs(c.latency) for c in cases), 0.05),
        _limit(f"{name}: worst row hit error", max(abs(c.hits) for c in cases), 0.01),
    ]
    joules = [abs(c.energy) for c in cases if c.energy is not None]
    if joules:
        lines.append(_limit(f"{name}: worst energy error", max(joules), 0.03))
    return lines


#: Memory in the reference data: the preset here.
DRAMSIM3 = {
    "DDR4_8Gb_x8_2400": "ddr4_2400_8gb_x8_dramsim3",
    "HBM2_8Gb_x128_1ch": "hbm2_2000_8gb_dramsim3",
}
RAMULATOR = {
    "DDR4_8Gb_x8_2400U_2R": "ddr4_2400_8gb_x8_ramulator",
    "HBM2_8Gb_2000_1ch": "hbm2_2000_8gb_ramulator",
}


def _dramsim3(folder: Path) -> list[Line]:
    return _others(folder, "dramsim3", "DRAMsim3", DRAMSIM3)


def _ramulator(folder: Path) -> list[Line]:
    return _others(folder, "ramulator2", "Ramulator 2.1", RAMULATOR)
