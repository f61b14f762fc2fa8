"""BitMoD and what it is compared with: speedups, cycles, energy (HPCA'25, arXiv 2411.11745).

Batch 1, 256 tokens of context; a discriminative task is one pass over the prompt, a generative one
adds 20 tokens, all at the cost of one with a context of 256. The published simulator (bitmod_sim of
abdelfattah-lab/BitMoD-HPCA-25) reads attention in a way of its own: scores of all heads as one
product over the whole width (so each head's work is counted for every head), the output as one over
the context, both with 16-bit keys and values and as many terms as a weight has. The rows that
reproduce its figures take its shapes; beside them stand ours, head by head with each machine's own
keys and values. Vector operations and the embedding are in neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from archsim.hardware import Machine, load_machine
from archsim.models.dot_product import ProductCost, Products, evaluate_products
from archsim.system.dot_product import resolve_arrays
from archsim.validate.papers.row import EXACT, Row
from archsim.workload import load_model
from archsim.workload.architecture import Attention, FeedForward
from archsim.workload.language import LanguageModel

PAPER = "BitMoD (HPCA'25)"
MODELS = ("opt-1.3b", "phi-2", "yi-6b", "llama-2-7b", "llama-2-13b", "llama-3-8b")
CONTEXT, GENERATED = 256, 20
#: Mean bits of a weight that keep the quality of generative tasks, model by model (test_ant.py and
#: test_olive.py of yc2367/BitMoD, as the stored figures were made).
GENERATIVE_BITS = {
    "ant": (5.0, 5.0, 5.25, 5.0, 5.0, 4.5),
    "olive": (3.875, 4.0, 4.25, 3.75, 3.75, 3.5),
}
#: By name: machine, and bits of a weight for discriminative and generative tasks.
ACCELERATORS = {
    "FP16": ("fp16_array", 16.0, (16.0,) * 6),
    "BitMoD lossless": ("bitmod", 6.0, (6.0,) * 6),
    "ANT": ("ant", 5.5, GENERATIVE_BITS["ant"]),
    "OliVe": ("olive", 4.5, GENERATIVE_BITS["olive"]),
    "BitMoD lossy": ("bitmod", 4.0, (3.0,) * 6),
}
#: Speedups of section V-C: who over whom, discriminative and generative.
SPEEDUPS = (
    ("BitMoD lossless", "FP16", 1.99, 2.41),
    ("BitMoD lossy", "ANT", 1.72, 1.66),
    ("BitMoD lossy", "OliVe", 1.56, 1.39),
)
#: Energy efficiency over all tasks, section V-C.
EFFICIENCY = (("BitMoD lossless", "FP16", 2.31), ("BitMoD lossy", "ANT", 1.48),
              ("BitMoD lossy", "OliVe", 1.31))  # fmt: skip
#: Cycles of Llama-2-7B as stored in the repository's notebook (sim/plot/speedup_plot.ipynb).
LLAMA_CYCLES = {
    "FP16": (3_156_574_208, 413_518_608),
    "BitMoD lossless": (1_649_680_384, 156_919_888),
    "ANT": (1_949_564_928, 129_497_936),
    "OliVe": (1_768_062_976, 97_236_816),
    "BitMoD lossy": (1_202_921_472, 79_493_200),
}


def _linears(model: LanguageModel) -> list[tuple[int, int]]:
    """Outputs and inputs of the linear layers, one matrix each as in the models' own code."""
    arch = model.architecture
    found = []
    for layer in arch.layers:
        mixer, ffn = layer.mixer, layer.ffn
        assert isinstance(mixer, Attention)
        assert isinstance(ffn, FeedForward)
        inner, cached = mixer.heads * mixer.head_dim, mixer.kv_heads * mixer.head_dim
        found += [(inner, arch.width), (cached, arch.width), (cached, arch.width)]
        found += [(arch.width, inner), *[(ffn.width, arch.width)] * (2 if ffn.gated else 1)]
        found.append((arch.width, ffn.width))
    return [*found, (arch.head, arch.width)]


def step_products(model: LanguageModel, new: int, published: bool) -> Products:
    """The matrix products of a step with a context of 256.

    Args:
        model: The model.
        new: Tokens of the step: 256, or 1.
        published: Attention in the shapes of the published simulator, or head by head.
    """
    rows = [(n, k, new, 1, 0, k * new) for n, k in _linears(model)]
    for layer in model.architecture.layers:
        a = layer.mixer
        assert isinstance(a, Attention)
        width, cached = a.heads * a.head_dim, a.kv_heads * a.head_dim
        if published:
            rows.append((new, width, a.heads * new, 1, 1, cached * a.heads * new))
            rows.append((a.heads * new, CONTEXT, new, 1, 1, cached * new))
        else:
            share = a.heads // a.kv_heads * new
            rows.append((CONTEXT, a.head_dim, share, a.kv_heads, 1, a.head_dim * share))
            rows.append((a.head_dim, CONTEXT, share, a.kv_heads, 1, CONTEXT * share))
    n, k, m, copies, is_cached, words = np.array(rows, np.float64).T
    return Products(n, k, m, copies, is_cached > 0, words)


def _machine(name: str, bits: float, generative: bool) -> Machine:
    """The array as it stands for a task: the units stand in twice the rows for single tokens."""
    machine = load_machine(name)
    engine = machine.item("engines", "array")
    fold = engine.fold if generative else 1
    return machine.with_values({
        "engines.array.weight_bits": bits, "engines.array.fold": 1,
        "engines.array.rows": engine.rows * fold, "engines.array.columns": engine.columns // fold,
    })  # fmt: skip


def step_cost(
    accelerator: str, model: str, generative: bool, published: bool = True
) -> ProductCost:
    """Cost of a prompt, or of one generated token, on an accelerator of the comparison."""
    name, prompt_bits, token_bits = ACCELERATORS[accelerator]
    bits = token_bits[MODELS.index(model)] if generative else prompt_bits
    array = resolve_arrays(_machine(name, bits, generative)).array
    if published:
        array = replace(array, kv_bits=16.0)
    products = step_products(load_model(model), 1 if generative else CONTEXT, published)
    return evaluate_products(products, array, "bitmod" if published else None)


def totals(published: bool = True) -> dict[str, np.ndarray]:
    """Cycles and energy (J) of both tasks, float64[6 models, 2 tasks, 2], by accelerator."""
    found = {}
    for name in ACCELERATORS:
        table = np.empty((len(MODELS), 2, 2))
        for m, model in enumerate(MODELS):
            for generative in (False, True):
                cost = step_cost(name, model, generative, published)
                table[m, int(generative)] = cost.cycles.sum(), cost.energy_j.sum()
        table[:, 1] = table[:, 0] + GENERATED * table[:, 1]
        found[name] = table
    return found


def speedups(found: dict[str, np.ndarray], better: str, other: str) -> np.ndarray:
    """Ratio of the mean speedups over FP16, for both tasks, float64[2]."""
    base = found["FP16"][:, :, 0]
    return (base / found[better][:, :, 0]).mean(0) / (base / found[other][:, :, 0]).mean(0)


def efficiency(found: dict[str, np.ndarray], better: str, other: str) -> float:
    """Ratio of energies, each over FP16's, mean over models, then over tasks."""
    base = found["FP16"][:, :, 1]
    ratios = (found[other][:, :, 1] / base).mean(0) / (found[better][:, :, 1] / base).mean(0)
    return float(ratios.mean())


def rows() -> Iterator[Row]:
    """Stored bits, cycles, speedups and energy."""
    for bits, stored in ((6, 6.0625), (4, 4.0625), (3, 3.0625)):
        machine = load_machine("bitmod").with_values({"engines.array.weight_bits": bits})
        ours = machine.item("engines", "array").stored_bits
        yield Row(PAPER, f"stored bits of a weight of {bits}", stored, ours, "bit", EXACT)
    for name, pair in LLAMA_CYCLES.items():
        for generative, stored in enumerate(pair):
            cycles = step_cost(name, "llama-2-7b", bool(generative)).cycles.sum()
            task = "token generated" if generative else "prompt of 256"
            figure = f"cycles, Llama-2-7B, {task}, {name}"
            yield Row(PAPER, figure, stored, float(cycles), "cycles", EXACT)
    cause = (
        "energy of buffers from another fit of CACTI; head by head, attention is less work than "
        "the published shapes count"
    )
    for published in (True, False):
        found = totals(published)
        said = "" if published else ", attention head by head"
        for better, other, *figures in SPEEDUPS:
            for task, value, ours in zip(
                ("discriminative", "generative"), figures, speedups(found, better, other),
                strict=True,
            ):  # fmt: skip
                figure = f"speedup of {better} over {other}, {task}{said}"
                allowed = 0.005 if published else 0.10
                yield Row(PAPER, figure, value, float(ours), "x", allowed, cause=cause)
        for better, other, value in EFFICIENCY:
            figure = f"energy efficiency of {better} over {other}, all tasks{said}"
            ours, allowed = efficiency(found, better, other), 0.02 if published else 0.10
            yield Row(PAPER, figure, value, ours, "x", allowed, cause=cause)
