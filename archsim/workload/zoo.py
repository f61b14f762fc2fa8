"""Known networks written in PyTorch, from which workload files are made.

``build("mobilenet_v2")`` gives the workload; nothing is allocated (meta device) or downloaded.
Each network follows the paper named in ``NETWORKS``; parameter counts equal the published ones
(see ``tests/workload/test_published.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from archsim.errors import InputError, MissingExtraError
from archsim.workload.graph import Workload


@dataclass(frozen=True)
class Network:
    """A network of the zoo.

    Attributes:
        define: Makes the module and its example inputs (batch 1), on the default device.
        source: Paper the definition follows.
    """

    define: Callable[[], tuple[Any, tuple[Any, ...]]]
    source: str


def _image(size: int = 224, channels: int = 3) -> tuple[Any, ...]:
    import torch

    return (torch.empty(1, channels, size, size),)


def _tokens(count: int) -> tuple[Any, ...]:
    import torch

    return (torch.zeros(1, count, dtype=torch.long),)


def _resnet18() -> tuple[Any, tuple[Any, ...]]:
    from archsim.workload.zoo_nets import resnet18

    return resnet18(), _image()


def _mobilenet_v2() -> tuple[Any, tuple[Any, ...]]:
    from archsim.workload.zoo_nets import mobilenet_v2

    return mobilenet_v2(), _image()


def _efficientnet_b0() -> tuple[Any, tuple[Any, ...]]:
    from archsim.workload.zoo_nets import efficientnet_b0

    return efficientnet_b0(), _image()


def _unet() -> tuple[Any, tuple[Any, ...]]:
    from archsim.workload.zoo_nets import UNet

    return UNet(), _image(572, 1)


def _bert_base() -> tuple[Any, tuple[Any, ...]]:
    from archsim.workload.zoo_nets import Bert

    return Bert(), _tokens(128)


def _vit_b_16() -> tuple[Any, tuple[Any, ...]]:
    from archsim.workload.zoo_nets import VisionTransformer

    return VisionTransformer(), _image()


def _gpt2_small() -> tuple[Any, tuple[Any, ...]]:
    from archsim.workload.zoo_nets import Gpt2

    return Gpt2(), _tokens(1024)


#: Networks by name.
NETWORKS: dict[str, Network] = {
    "resnet18": Network(
        _resnet18, "He et al.: Deep Residual Learning for Image Recognition, CVPR 2016"
    ),
    "mobilenet_v2": Network(
        _mobilenet_v2,
        "Sandler et al.: MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018",
    ),
    "efficientnet_b0": Network(
        _efficientnet_b0,
        "Tan, Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, "
        "ICML 2019",
    ),
    "unet": Network(
        _unet,
        "Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image "
        "Segmentation, MICCAI 2015; 572x572 input, 2 classes, unpadded convolutions",
    ),
    "bert_base": Network(
        _bert_base,
        "Devlin et al.: BERT: Pre-training of Deep Bidirectional Transformers, NAACL 2019; "
        "uncased vocabulary, with pooler, 128 tokens",
    ),
    "vit_b_16": Network(
        _vit_b_16,
        "Dosovitskiy et al.: An Image is Worth 16x16 Words, ICLR 2021; 224x224 input, 1000 classes",
    ),
    "gpt2_small": Network(
        _gpt2_small,
        "Radford et al.: Language Models are Unsupervised Multitask Learners, 2019; prefill of "
        "1024 tokens, tied output embedding",
    ),
}


def build(name: str, batch: int | None = None) -> Workload:
    """A network of the zoo as a workload.

    Args:
        name: A key of ``NETWORKS``.
        batch: Batch wanted; None is 1.

    Raises:
        InputError: No such network.
        MissingExtraError: PyTorch is not installed.
    """
    if name not in NETWORKS:
        raise InputError("no such network", found=name, expected=", ".join(NETWORKS))
    try:
        import torch
    except ImportError:
        raise MissingExtraError("torch", "torch") from None
    from archsim.workload.torch import import_torch

    network = NETWORKS[name]
    with torch.device("meta"):
        module, inputs = network.define()
    return import_torch(
        module,
        inputs,
        name=name,
        batch=batch,
        source=network.source + "; defined in archsim.workload.zoo",
        licence="MIT (definition written for archsim)",
    )
