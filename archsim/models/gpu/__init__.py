"""Kernels of language models on GPUs: latency and energy from the data sheet and few constants.

A call is priced from what a data sheet says (``GpuDevice``) and the calibrated constants of its
generation (``constants.yaml``: efficiencies, latencies, and how they were found). One row of a
batch is one kernel call; a single call is a batch of one.

* ``evaluate_gemm``: tiles, waves, split reductions, L2 and device memory.
* ``evaluate_batched_gemm``: many small products in one kernel (unfused attention).
* ``evaluate_prefill``, ``evaluate_decode``: attention over new tokens, and of one over its cache.
* ``evaluate_moe``: grouped products over unevenly loaded experts (``expert_loads``).
* ``evaluate_vector``: elementwise operations, norms, softmax.
* ``evaluate_collective``: all-reduce and the like, all-to-all, expert dispatch and combine.
"""

from archsim.models.gpu.attention import evaluate_prefill
from archsim.models.gpu.batched import evaluate_batched_gemm
from archsim.models.gpu.collective import evaluate_collective
from archsim.models.gpu.constants import GpuConstants, constants_for, load_constants
from archsim.models.gpu.cost import GpuCost
from archsim.models.gpu.decode import evaluate_decode
from archsim.models.gpu.device import GpuDevice, from_machine, gpu_device
from archsim.models.gpu.gemm import evaluate_gemm
from archsim.models.gpu.moe import (
    equal_figures,
    evaluate_moe,
    expert_loads,
    load_figures,
    mean_figures,
)
from archsim.models.gpu.vector import eager_s, evaluate_vector

__all__ = [
    "GpuConstants",
    "GpuCost",
    "GpuDevice",
    "constants_for",
    "eager_s",
    "equal_figures",
    "evaluate_batched_gemm",
    "evaluate_collective",
    "evaluate_decode",
    "evaluate_gemm",
    "evaluate_moe",
    "evaluate_prefill",
    "evaluate_vector",
    "expert_loads",
    "from_machine",
    "gpu_device",
    "load_constants",
    "load_figures",
    "mean_figures",
]
