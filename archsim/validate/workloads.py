"""MACs and parameters of the shipped networks beside published figures."""

from __future__ import annotations

from archsim.validate.references import table
from archsim.workload import load_workload

#: Network: parameters (millions), MACs (billions, batch 1), where both are published.
PUBLISHED = {
    "resnet18": (11.689512, 1.81, "torchvision model table"),
    "resnet50": (25.557032, 4.09, "torchvision model table"),
    "vgg19": (143.667240, 19.63, "torchvision model table"),
    "mobilenet_v2": (3.504872, 0.30, "torchvision model table"),
    "efficientnet_b0": (5.288548, 0.39, "torchvision model table"),
    "vit_b_16": (86.567656, 17.56, "torchvision model table"),
    "squeezenet": (1.235496, 0.35, "torchvision model table (SqueezeNet 1.1)"),
    "alexnet": (60.965224, 0.724, "BVLC model; MACs: Sze et al., Proc. IEEE 2017, table II"),
    "bert_base": (109.482240, None, "bert-base-uncased with pooler"),
    "gpt2_small": (124.439808, None, "gpt2, tied embedding counted once"),
}


def validate_workloads() -> bool:
    """Print the table; True if all agree to the digits published."""
    rows, agree = [], True
    for name, (millions, billions, source) in PUBLISHED.items():
        workload = load_workload(name)
        parameters, macs = workload.parameters / 1e6, workload.macs / 1e9
        same = abs(parameters - millions) < 5e-7
        if billions is not None:
            digits = len(str(billions).split(".")[1])
            same &= abs(macs - billions) <= 0.5 * 10.0**-digits + 1e-9
        agree &= same
        rows.append(
            (
                name, f"{parameters:.6f}", f"{millions:.6f}", f"{macs:.4f}",
                "-" if billions is None else billions, "yes" if same else "NO", source,
            )
        )  # fmt: skip
    print("Networks beside published figures (parameters in millions, MACs in billions)")
    print(table(("network", "parameters", "published", "MACs", "published", "agree", "by"), rows))
    return agree
