"""Processing in memory: products as data, kernels at command level, and their closed form.

``load_product`` reads a product, ``run_kernel`` issues a kernel's commands on the DRAM engine,
``closed_form`` gives its time for many shapes at once.
"""

from archsim.models.pim.closed import PimCost, closed_form
from archsim.models.pim.command import KernelResult, run_kernel
from archsim.models.pim.dpu import dpu_gemv
from archsim.models.pim.product import Product, available_products, load_product

__all__ = [
    "KernelResult",
    "PimCost",
    "Product",
    "available_products",
    "closed_form",
    "dpu_gemv",
    "load_product",
    "run_kernel",
]
