"""Kernels of language models on GPUs: latency and energy from the data sheet and few constants.

A call is priced from what a data sheet says (``GpuDevice``) and the calibrated constants of its
generation (``constants.yaml``: efficiencies, latencies, and how they were found). One row of a
batch is one kernel call; a single call is a batch of one.

* ``evaluate_gemm``: tiles, waves, split reductions, L2 and device memory.
* ``evaluate_prefill``, ``evaluate_decode``: attention over new tokens, and of one over its cache.
"""

from archsim.models.gpu.attention import evaluate_decode, evaluate_prefill
from archsim.models.gpu.constants import GpuConstants, constants_for, load_constants
from archsim.models.gpu.cost import GpuCost
from archsim.models.gpu.device import GpuDevice, from_machine, gpu_device
from archsim.models.gpu.gemm import evaluate_gemm

__all__ = [
    "GpuConstants",
    "GpuCost",
    "GpuDevice",
    "constants_for",
    "evaluate_decode",
    "evaluate_gemm",
    "evaluate_prefill",
    "from_machine",
    "gpu_device",
    "load_constants",
]
