"""Flash-LLM: pruned weights on tensor cores over dense ones (VLDB'23, arXiv 2309.10285).

The products of OPT-30B, 66B and 175B with 8 to 64 tokens on an A100, weights pruned anywhere: the
shapes of the authors' kernel_benchmark/benchmark.sh.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from archsim.models.gpu import evaluate_gemm, gpu_device
from archsim.models.gpu_sparse import evaluate_sparse_gemm
from archsim.validate.papers.row import Row

#: Widths of OPT-30B, OPT-66B and OPT-175B; tokens.
WIDTHS, TOKENS = (7168, 9216, 12288), (8, 16, 32, 64)
#: By sparsity: mean speedup over cuBLAS.
OVER_DENSE = {0.7: 1.4, 0.8: 1.7, 0.9: 2.1}


def rows() -> Iterator[Row]:
    """Mean speedups over the dense product."""
    device = gpu_device("a100")
    sizes = [
        (m, n, k)
        for h in WIDTHS
        for n, k in ((3 * h, h), (h, h), (4 * h, h), (h, 4 * h))
        for m in TOKENS
    ]
    m, n, k = np.array(sizes, np.float64).T
    dense = evaluate_gemm(device, m, n, k, "fp16").latency_s
    for sparsity, published in OVER_DENSE.items():
        sparse = evaluate_sparse_gemm(device, m, n, k, "unstructured", 1 - sparsity).latency_s
        figure = f"speedup over the dense product, A100, OPT's shapes, sparsity {sparsity:.0%}"
        yield Row(
            "Flash-LLM (VLDB'23)", figure, published, float((dense / sparse).mean()), "x",
            cause="nothing is fitted to sparse kernels: what extracting takes of the instruction "
            "rate, and loads in two buffers lose of the bandwidth, are not modelled",
        )  # fmt: skip
