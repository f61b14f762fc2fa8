"""SpAtten: traffic that pruning leaves, and its top-k engine (HPCA'21, arXiv 2012.09852).

The settings are those of the workload traces in the authors' repository (mit-han-lab/spatten): 32
tokens of GPT-2 after a prompt of 992. Traffic is of keys and values beside FP16; the figures leave
out the low bits that are read in doubt and heads that are dropped altogether, as the traces' shares
are means over the heads that remain.
"""

from __future__ import annotations

from collections.abc import Iterator

from archsim.models.topk import expected_cycles, expected_cycles_exact
from archsim.system.pruned_attention import generate
from archsim.validate.papers.row import Row
from archsim.workload.pruning import load_pruning

PAPER = "SpAtten (HPCA'21)"
#: By setting: shares of keys and values the trace fetches, %, and traffic over theirs.
TRACES = {"spatten-gpt2": (27.6, 5.5, 16.1), "spatten-gpt2-medium": (53.8, 16.2, 4.13)}
DENSE_BITS = 16.0

NOT_COMPUTED = (
    (
        "SpAtten over A3, MNNFast, TITAN Xp and Xeon; 10.0x traffic, 3.8x tokens and values, 0.43 "
        "and 1.61 TFLOPS",
        "means over benchmarks whose ratios by layer are not published (two traces are)",
    ),
    ("SpAtten's 8.30 W and 18.71 mm2", "no table of its parts is at hand"),
)


def rows() -> Iterator[Row]:
    """Shares, traffic, and the top-k engine's formula beside its recursion."""
    for name, (keys, values, traffic) in TRACES.items():
        setting = load_pruning(name)
        cost = generate(setting)
        said = f"{setting.model}, 32 tokens after 992"
        yield Row(PAPER, f"keys fetched, {said}", keys, cost.key_share * 100, "%", 0.005)
        yield Row(PAPER, f"values fetched, {said}", values, cost.value_share * 100, "%", 0.005)
        ours = 2 * DENSE_BITS / (
            cost.key_share * setting.key_bits + cost.value_share * setting.value_bits
        )  # fmt: skip
        figure = f"traffic of keys and values, FP16 over pruned, {said}"
        yield Row(PAPER, figure, traffic, ours, "x", 0.005)
    for n, k in ((1024, 204), (1024, 921), (256, 32)):
        figure = f"top-k engine, {k} of {n}, 16 comparators: recursion and formula"
        exact, closed = expected_cycles_exact(n, k, 16), float(expected_cycles(n, k, 16))
        yield Row(PAPER, figure, exact, closed, "cycles", 0.005)
