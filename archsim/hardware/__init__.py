"""What computes: machines (YAML), the component library, and their resolution into tables.

``load_machine`` reads a machine, ``resolve`` turns it (and any number of changed copies of it)
into an ``EngineTable`` of energies, areas, bandwidths and capacities. To add a machine, write one
YAML file: see ``archsim.hardware.machine``.
"""

from archsim.hardware.leaves import Leaf
from archsim.hardware.machine import (
    DATAFLOWS,
    ROLES,
    AttentionEngine,
    DataflowEngine,
    DotProductEngine,
    Fanout,
    GpuEngine,
    Group,
    Link,
    Mac,
    Machine,
    Network,
    Part,
    Precision,
    SpatialEngine,
    Storage,
    SystolicEngine,
    Tier,
    VectorEngine,
    available_machines,
    load_machine,
    save_machine,
)
from archsim.hardware.node import NodeTable, resolve_node
from archsim.hardware.resolve import resolve
from archsim.hardware.table import EngineTable

__all__ = [
    "DATAFLOWS",
    "ROLES",
    "AttentionEngine",
    "DataflowEngine",
    "DotProductEngine",
    "EngineTable",
    "Fanout",
    "GpuEngine",
    "Group",
    "Leaf",
    "Link",
    "Mac",
    "Machine",
    "Network",
    "NodeTable",
    "Part",
    "Precision",
    "SpatialEngine",
    "Storage",
    "SystolicEngine",
    "Tier",
    "VectorEngine",
    "available_machines",
    "load_machine",
    "resolve",
    "resolve_node",
    "save_machine",
]
