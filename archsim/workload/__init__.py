"""Workloads: the graph of what is computed, its importers and its file form."""

from archsim.workload.batch import rebatch
from archsim.workload.fold import unfold
from archsim.workload.graph import Access, Block, Einsum, Operation, Tensor, Workload
from archsim.workload.huggingface import available_models, load_model
from archsim.workload.language import LanguageModel, ModelSummary, model_summary
from archsim.workload.library import available_workloads, import_model, load_workload
from archsim.workload.report import Summary, summary
from archsim.workload.steps import Bits, Request, Routing
from archsim.workload.yaml_write import save_workload

__all__ = [
    "Access",
    "Bits",
    "Block",
    "Einsum",
    "LanguageModel",
    "ModelSummary",
    "Operation",
    "Request",
    "Routing",
    "Summary",
    "Tensor",
    "Workload",
    "available_models",
    "available_workloads",
    "import_model",
    "load_model",
    "load_workload",
    "model_summary",
    "rebatch",
    "save_workload",
    "summary",
    "unfold",
]
