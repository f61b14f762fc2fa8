"""Making the shipped workload files: ``python -m archsim.workload.shipped [NAME ...]``.

Every file in ``workloads/`` comes from here: from the zoo, or from the weight-free models that the
onnx package carries for its own tests. Run it after a change to the importers or the file form.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from archsim.errors import InputError, MissingExtraError
from archsim.workload.graph import Access, Einsum, Workload


@dataclass(frozen=True)
class Light:
    """A model that the onnx package carries.

    Attributes:
        file: File name in ``onnx/backend/test/data/light``.
        source: Paper and training framework.
        symbols: Input extents that differ from the file's.
    """

    file: str
    source: str
    symbols: Mapping[str, int] = field(default_factory=dict)


_LICENCE = "Apache-2.0 (onnx package)"

#: Workloads made from models of the onnx package.
LIGHT: dict[str, Light] = {
    "alexnet": Light(
        "light_bvlc_alexnet.onnx",
        "Krizhevsky et al., NeurIPS 2012, as trained by BVLC (Caffe); input 227x227, which gives "
        "the layers of the Eyeriss paper (JSSC 2017)",
        {"data_0.2": 227, "data_0.3": 227},
    ),
    "zfnet512": Light("light_zfnet512.onnx", "Zeiler, Fergus, ECCV 2014 (Caffe2)"),
    "vgg19": Light("light_vgg19.onnx", "Simonyan, Zisserman, ICLR 2015 (Caffe)"),
    "inception_v1": Light(
        "light_inception_v1.onnx", "Szegedy et al.: Going Deeper with Convolutions, CVPR 2015"
    ),
    "inception_v2": Light(
        "light_inception_v2.onnx",
        "Ioffe, Szegedy: Batch Normalization, ICML 2015 (Caffe: scale and shift stand beside each "
        "normalisation)",
    ),
    "resnet50": Light(
        "light_resnet50.onnx",
        "He et al., CVPR 2016 (Caffe2; stride in the 3x3 convolutions, as in torchvision)",
    ),
    "densenet121": Light(
        "light_densenet121.onnx",
        "Huang et al., CVPR 2017 (Caffe: scale and shift stand beside each normalisation)",
    ),
    "squeezenet": Light("light_squeezenet.onnx", "Iandola et al., 2016: SqueezeNet 1.1 (Caffe)"),
    "shufflenet": Light(
        "light_shufflenet.onnx", "Zhang et al.: ShuffleNet, CVPR 2018, 4 groups (Caffe2)"
    ),
}


def make(name: str) -> Workload:
    """Make a shipped workload anew.

    Raises:
        InputError: No such workload.
        MissingExtraError: onnx or PyTorch is not installed.
    """
    if name not in LIGHT:
        from archsim.workload.zoo import build

        return build(name)
    try:
        import onnx
    except ImportError:
        raise MissingExtraError("onnx", "onnx") from None
    from archsim.workload.onnx import import_onnx

    light = LIGHT[name]
    path = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / light.file
    workload = renamed(import_onnx(path, symbols=light.symbols))
    source = f"{light.source}; {light.file} of the onnx package"
    return replace(workload, name=name, source=source, licence=_LICENCE)


def renamed(workload: Workload) -> Workload:
    """Speaking names for a graph whose nodes are numbered, taken from its weights.

    ``conv1_w_0`` names the operation ``conv1``; what follows it is ``conv1.relu`` and so on.
    """
    operations: dict[str, str] = {}
    tensors: dict[str, str] = {}
    taken: set[str] = set()
    made_by: dict[str, str] = {}
    for op in workload.operations:
        weights = [t for t in op.inputs if workload.tensors[t].role == "weight"]
        match = re.fullmatch(r"(?:gpu_0/)?(.+)_w_0", weights[0]) if weights else None
        before = next((made_by[t] for t in op.inputs if t in made_by), "input")
        if op.kind == "bias_add":
            name = before + ".bias"
        elif op.einsum is not None and match:
            name = match[1]
        else:
            name = f"{before.split('.')[0]}.{op.kind}"
        count, unique = 1, name
        while unique in taken:
            count += 1
            unique = f"{name}_{count}"
        taken.add(unique)
        operations[op.name] = unique
        biased = len(op.outputs) == 1 and op.outputs[0].endswith(".sum")
        for index, tensor in enumerate(op.outputs):
            suffix = ".sum" if biased else f".{index}" if len(op.outputs) > 1 else ""
            held = before if op.kind == "bias_add" else unique
            tensors[tensor] = held + suffix
            made_by[tensor] = held
        for index, tensor in enumerate(weights):
            tail = "weight" if op.einsum is not None and index == 0 else None
            tensors.setdefault(tensor, f"{unique}.{tail}" if tail else _short(tensor))
    for name in workload.tensors:
        tensors.setdefault(name, _short(name))
    return _with_names(workload, operations, tensors)


def _short(name: str) -> str:
    return name.removeprefix("gpu_0/").removesuffix("_0")


def _with_names(
    workload: Workload, operations: Mapping[str, str], tensors: Mapping[str, str]
) -> Workload:
    if len(set(tensors.values())) != len(tensors):
        raise InputError("renaming would make two tensors one", source=workload.name)

    def nest(einsum: Einsum | None) -> Einsum | None:
        if einsum is None:
            return None
        accesses = tuple(Access(tensors[a.tensor], a.ranks) for a in einsum.operands)
        return Einsum(einsum.dims, accesses)  # type: ignore[arg-type]

    return replace(
        workload,
        tensors={tensors[n]: replace(t, name=tensors[n]) for n, t in workload.tensors.items()},
        operations=tuple(
            replace(
                op,
                name=operations[op.name],
                inputs=tuple(tensors[t] for t in op.inputs),
                outputs=tuple(tensors[t] for t in op.outputs),
                einsum=nest(op.einsum),
            )
            for op in workload.operations
        ),
    )


def main(names: list[str]) -> None:
    """Write the named workloads, or all of them, into the folder they ship in."""
    from archsim.workload.library import shipped_folder
    from archsim.workload.yaml_write import save_workload
    from archsim.workload.zoo import NETWORKS

    for name in names or [*LIGHT, *NETWORKS]:
        workload = make(name)
        save_workload(workload, shipped_folder() / f"{name}.yaml")
        print(f"{name}: {workload.macs:,} MACs, {workload.parameters:,} parameters")


if __name__ == "__main__":
    main(sys.argv[1:])
