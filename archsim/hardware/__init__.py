"""What computes: machines (YAML), the component library, and their resolution into tables.

``load_machine`` reads a machine, ``resolve`` turns it (and any number of changed copies of it)
into an ``EngineTable`` of energies, areas, bandwidths and capacities. To add a machine, write one
YAML file: see ``archsim.hardware.machine``.
"""

from archsim.hardware.leaves import Leaf
from archsim.hardware.machine import (
    DATAFLOWS,
    ROLES,
    Fanout,
    Link,
    Mac,
    Machine,
    Network,
    Precision,
    SpatialEngine,
    Storage,
    Tier,
    VectorEngine,
    available_machines,
    load_machine,
)
from archsim.hardware.resolve import resolve
from archsim.hardware.table import EngineTable

__all__ = [
    "DATAFLOWS",
    "ROLES",
    "EngineTable",
    "Fanout",
    "Leaf",
    "Link",
    "Mac",
    "Machine",
    "Network",
    "Precision",
    "SpatialEngine",
    "Storage",
    "Tier",
    "VectorEngine",
    "available_machines",
    "load_machine",
    "resolve",
]
