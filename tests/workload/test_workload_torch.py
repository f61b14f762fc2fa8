"""The torch importer, and its agreement with the ONNX importer."""

from collections import Counter

import numpy as np
import pytest

from archsim.errors import InputError
from archsim.workload import load_workload, rebatch
from archsim.workload.torch import import_torch
from archsim.workload.yaml_form import loads
from archsim.workload.yaml_write import dumps
from archsim.workload.zoo import NETWORKS, build

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


class Mixed(nn.Module):
    """A little of everything."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)
        self.words = nn.Embedding(20, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.words.weight

    def forward(self, image, ids):
        x = functional.silu(self.norm(self.conv(image)))
        left, right = self.up(x).chunk(2, 1)
        image = functional.interpolate(left + 2 * right, scale_factor=2, mode="bilinear")
        tokens = self.words(ids)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        pooled = functional.adaptive_avg_pool2d(x, 1).flatten(1)
        return image, self.head(functional.gelu(tokens) + pooled[:, None])


def mixed(batch=2):
    return Mixed(), (torch.zeros(batch, 4, 16, 16), torch.zeros(batch, 6, dtype=torch.long))


def test_a_module_is_imported_with_names_batch_and_tied_weights():
    module, inputs = mixed()
    workload = import_torch(module, inputs, name="mixed", licence="none")
    assert workload.batch == 2
    assert workload.parameters == sum(p.numel() for p in module.parameters())
    ops = {op.name: op for op in workload.operations}
    assert ops["conv"].einsum.extents == dict(N=2, G=2, M=4, C=2, P=8, Q=8, R=3, S=3)
    assert ops["up"].einsum.extents == dict(N=2, G=1, M=16, C=8, P=8, Q=8, R=1, S=1)
    assert ops["attention.sdpa.qk"].einsum.extents == dict(G=4, M=6, C=4, P=6)
    assert ops["head"].inputs[1] == ops["words"].inputs[0] == "words.weight"
    assert loads(dumps(workload)) == workload
    assert rebatch(workload, 5) == import_torch(
        module, inputs, name="mixed", licence="none", batch=5
    )


def test_the_module_is_left_alone():
    module, inputs = mixed()
    module.train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    import_torch(module, inputs)
    assert module.training
    for name, tensor in module.state_dict().items():
        assert tensor.device.type == "cpu"
        assert torch.equal(tensor, before[name])


def test_macs_agree_with_torch_own_counter():
    from torch.utils.flop_counter import FlopCounterMode

    module, inputs = mixed()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    # in training mode and by plain products: the counter does not see fused kernels
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module.train()(*inputs)
    assert 2 * import_torch(module, inputs).macs == counter.get_total_flops()


def test_shapes_and_bytes_follow_the_run():
    module, inputs = mixed()
    outputs = module.eval()(*inputs)
    workload = import_torch(module, inputs)
    made = sorted(t.shape for t in workload.tensors.values() if t.role == "output")
    assert made == sorted(tuple(o.shape) for o in outputs)


def test_an_operator_without_a_cost_is_named():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.fft.fft(x)

    with pytest.raises(InputError, match="fft"):
        import_torch(Odd(), (torch.zeros(2, 4),))


def test_a_module_that_cannot_be_exported_is_an_input_error():
    class Broken(nn.Module):
        def forward(self, x):
            return x @ x

    with pytest.raises(InputError, match="export failed"):
        import_torch(Broken(), (torch.zeros(2, 3),))


def test_a_module_that_does_not_scale_keeps_its_batch():
    class Similarity(nn.Module):
        def forward(self, x):
            return x @ x.t()

    workload = import_torch(Similarity(), (torch.zeros(3, 4),))
    assert workload.batch is None
    assert workload.macs == 36
    with pytest.raises(InputError, match="rescaled"):
        import_torch(Similarity(), (torch.zeros(3, 4),), batch=2)


@pytest.mark.parametrize("name", ["resnet18", "unet"])
def test_shipped_files_are_what_the_zoo_makes(name):
    assert build(name) == load_workload(name)


def test_every_network_of_the_zoo_ships_with_its_parameter_count():
    for name, network in NETWORKS.items():
        with torch.device("meta"):
            module, _ = network.define()
        count = sum(parameter.numel() for parameter in module.parameters())
        assert load_workload(name).parameters == count
    with pytest.raises(InputError, match="no such network"):
        build("lenet")


class Lambda(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def _rotate(x):
    angle = torch.outer(torch.arange(6.0), torch.arange(16.0))
    return x * torch.cos(angle) + torch.cat((-x[..., 8:], x[..., :8]), -1) * torch.sin(angle)


def _choices(x):
    x = torch.where(x > 0, x, torch.zeros_like(x)).masked_fill(x < 0, 0.0)
    return x.cumsum(1).topk(3, 1)[0].clamp(min=0).add_(1)


IMAGE, TOKENS = (2, 8, 8, 8), (2, 6, 16)
MODULES = {
    "encoder layer": (
        lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True),
        TOKENS,
        2 * 6 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 2 * 6 * 6 * 16,
    ),
    "norms and activations": (
        lambda: nn.Sequential(
            *(nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True), nn.PReLU(8), nn.Mish()),
            *(nn.Hardtanh(), nn.GLU(1), nn.PixelShuffle(2), nn.Upsample(scale_factor=2)),
            *(nn.ReflectionPad2d(1), nn.LocalResponseNorm(5), nn.LogSoftmax(1)),
        ),
        IMAGE,
        0,
    ),
    "line convolution": (
        lambda: nn.Sequential(nn.Conv1d(6, 4, 3), nn.BatchNorm1d(4), nn.MaxPool1d(2)),
        TOKENS,
        2 * 14 * 4 * 6 * 3,
    ),
    "volume convolution": (lambda: nn.Conv3d(8, 4, 3, padding=1), (2, 8, 4, 4, 4), 2 * 64 * 864),
    "overlapping transposed convolution": (
        lambda: nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1),
        IMAGE,
        2 * 64 * 8 * 4 * 9,
    ),
    "rotary embedding": (lambda: Lambda(_rotate), TOKENS, 0),
    "choices": (lambda: Lambda(_choices), TOKENS, 0),
    "einsum": (lambda: Lambda(lambda x: torch.einsum("bij,bkj->bik", x, x)), TOKENS, 2 * 36 * 16),
}


@pytest.mark.parametrize("name", MODULES)
def test_common_modules_import_at_any_batch(name):
    make, shape, macs = MODULES[name]
    module = make()
    workload = import_torch(module, (torch.zeros(shape),), name="module")
    assert workload.batch == 2
    assert workload.macs == macs
    assert workload.parameters == sum(p.numel() for p in module.parameters())
    assert loads(dumps(workload)) == workload


def _figures(workload):
    """What two importers must agree on: work by kind, and the nests."""
    views = [op for op in workload.operations if not op.view]
    return (
        Counter((op.kind, op.vector_ops, op.fusable) for op in views),
        Counter(op.einsum.dims for op in views if op.einsum),
        workload.parameters,
        sum(workload.tensors[t].elements for op in views for t in op.outputs),
    )


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        a = functional.relu(self.norm(self.conv(x)))
        b = functional.max_pool2d(torch.sigmoid(self.depth(a)) * a, 2)
        c = torch.cat((b, functional.hardswish(b)), 1)[:, :8]
        d = functional.adaptive_avg_pool2d(c, 1).flatten(1)
        return functional.softmax(self.fc(d), 1)


def _small_onnx():
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "conv.w"], ["c"], pads=[1] * 4),
        node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
        node("Relu", ["n"], ["a"]),
        node("Conv", ["a", "depth.w", "depth.b"], ["d"], pads=[1] * 4, group=8),
        node("Sigmoid", ["d"], ["g"]),
        node("Mul", ["g", "a"], ["ga"]),
        node("MaxPool", ["ga"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("HardSwish", ["p"], ["h"]),
        node("Concat", ["p", "h"], ["k"], axis=1),
        node("Slice", ["k", "starts", "ends", "axes"], ["l"]),
        node("GlobalAveragePool", ["l"], ["e"]),
        node("Flatten", ["e"], ["f"]),
        node("Gemm", ["f", "fc.w", "fc.b"], ["o"], transB=1),
        node("Softmax", ["o"], ["y"], axis=1),
    ]
    shapes = {"conv.w": (8, 3, 3, 3), "depth.w": (8, 1, 3, 3), "fc.w": (4, 8), "fc.b": (4,)}
    shapes |= dict.fromkeys(("s", "b", "m", "v", "depth.b"), (8,))
    constants = [
        numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in shapes.items()
    ]
    for name, number in (("starts", 0), ("ends", 8), ("axes", 1)):
        constants.append(numpy_helper.from_array(np.int64([number]), name))
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x", 1, ["n", 3, 8, 8])], [info("y", 1, None)], constants
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def test_both_importers_say_the_same_of_the_same_network():
    from archsim.workload.onnx import import_model_proto

    ours = import_torch(Small(), (torch.zeros(1, 3, 8, 8),), batch=4)
    theirs = import_model_proto(_small_onnx(), "small", "small", batch=4)
    assert _figures(ours) == _figures(theirs)


def test_zoo_and_light_models_agree_on_squeezed_work():
    """ResNet-50's nests are those of torchvision's definition, made here from the zoo's block."""
    assert load_workload("resnet50").macs == 4_089_184_256
    ours, light = load_workload("resnet18"), load_workload("resnet50")
    stem = [next(op for op in w.operations if op.einsum).einsum.dims for w in (ours, light)]
    assert stem[0] == stem[1]
