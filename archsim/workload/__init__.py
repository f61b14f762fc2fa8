"""Workloads: the graph of what is computed, its importers and its file form."""

from archsim.workload.batch import rebatch
from archsim.workload.fold import unfold
from archsim.workload.graph import Access, Block, Einsum, Operation, Tensor, Workload
from archsim.workload.library import available_workloads, import_model, load_workload
from archsim.workload.report import Summary, summary
from archsim.workload.yaml_write import save_workload

__all__ = [
    "Access",
    "Block",
    "Einsum",
    "Operation",
    "Summary",
    "Tensor",
    "Workload",
    "available_workloads",
    "import_model",
    "load_workload",
    "rebatch",
    "save_workload",
    "summary",
    "unfold",
]
