"""Parameters and multiply-accumulates of the shipped networks equal the published figures.

Definitions: parameters are the elements of all trained tensors (running statistics of batch norm
are none). MACs are those of convolutions, matrix products and attention at batch 1.
"""

import pytest

from archsim.workload import available_workloads, load_workload, summary

#: name: (parameters, MACs, where they are published)
PUBLISHED = {
    # torchvision model table (ResNet50_Weights: 25557032, 4.09 G); stride in the 3x3, as there
    "resnet50": (25_557_032, 4_089_184_256),
    "resnet18": (11_689_512, 1_814_073_344),  # torchvision: 11689512, 1.81 G
    "mobilenet_v2": (3_504_872, 300_774_272),  # torchvision: 3504872, 0.30 G
    "efficientnet_b0": (5_288_548, 385_814_752),  # torchvision: 5288548, 0.39 G
    "vgg19": (143_667_240, 19_632_062_464),  # torchvision: 143667240, 19.63 G
    "vit_b_16": (86_567_656, 17_563_828_224),  # torchvision: 86567656, 17.56 G
    # BVLC reference: 60,965,224; 724 M MACs at 227x227 (Eyeriss, Sze et al. 2017, table II: 724 M)
    "alexnet": (60_965_224, 724_406_816),
    "squeezenet": (1_235_496, 349_151_936),  # SqueezeNet 1.1, torchvision: 1235496, 0.35 G
    # Sum of the layers of "uncased, with pooler": bert-base-uncased has 109,482,240
    "bert_base": (109_482_240, 11_174_215_680),
    "gpt2_small": (124_439_808, 145_824_153_600),  # gpt2: 124,439,808 (tied embedding once)
    # Caffe files keep scale and shift beside every normalisation, so each channel counts twice:
    # torchvision's 7,978,856 and 83,648 on top of it; 2.83 G MACs
    "densenet121": (7_978_856 + 83_648, 2_834_161_664),
    "inception_v1": (6_998_552, 1_431_556_352),  # GoogLeNet without auxiliary heads: 6,998,552
    "unet": (31_030_658, None),  # 1 input channel, 2 classes
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_shipped_network_equals_published_figures(name):
    workload = load_workload(name)
    parameters, macs = PUBLISHED[name]
    assert workload.parameters == parameters
    if macs is not None:
        assert workload.macs == macs


def test_unet_macs_equal_the_sum_over_its_drawing():
    # Ronneberger et al., figure 1: size after each unpadded convolution, channels as drawn.
    down = [(570, 1, 64), (568, 64, 64), (282, 64, 128), (280, 128, 128), (138, 128, 256)]
    down += [(136, 256, 256), (66, 256, 512), (64, 512, 512), (30, 512, 1024), (28, 1024, 1024)]
    up = [(54, 1024, 512), (52, 512, 512), (102, 512, 256), (100, 256, 256), (198, 256, 128)]
    up += [(196, 128, 128), (390, 128, 64), (388, 64, 64)]
    rise = [(56, 1024, 512), (104, 512, 256), (200, 256, 128), (392, 128, 64)]
    macs = sum(9 * size**2 * a * b for size, a, b in down + up)
    macs += sum(size**2 * a * b for size, a, b in rise)  # 2x2 up-convolution: one tap a pixel
    macs += 388**2 * 64 * 2
    assert load_workload("unet").macs == macs


def test_alexnet_layers_are_those_of_eyeriss():
    # Chen et al., JSSC 2017, table V: MACs 105.4, 223.9, 149.5, 112.1, 74.8 million at batch 1.
    convs = [op for op in load_workload("alexnet").operations if op.kind == "conv2d"]
    assert [round(op.macs / 1e6, 1) for op in convs] == [105.4, 223.9, 149.5, 112.1, 74.8]
    assert [op.einsum.extents["G"] for op in convs] == [1, 2, 1, 2, 2]
    assert [op.einsum.extents["P"] for op in convs] == [55, 27, 13, 13, 13]


def test_bert_macs_follow_from_its_dimensions():
    tokens, width, layers = 128, 768, 12
    layer = tokens * width * (4 * width + 8 * width) + 2 * tokens * tokens * width
    assert load_workload("bert_base").macs == layers * layer + width * width


def test_many_networks_ship_each_with_source_and_licence():
    names = available_workloads()
    assert len(names) >= 12
    for name in names:
        workload = load_workload(name)
        assert workload.name == name
        assert workload.source
        assert workload.licence
        assert workload.batch == 1


def test_summary_parts_sum_to_totals():
    workload = load_workload("resnet50")
    figures = summary(workload)
    assert figures.macs == sum(figures.macs_by_kind.values()) == workload.macs
    assert figures.vector_ops == sum(figures.vector_ops_by_kind.values())
    assert sum(figures.operations.values()) == len(workload.operations)
    assert figures.operations["conv2d"] == 53
    # stem 1, first stage 4, six in each of the three others, classifier 1
    assert figures.einsum_shapes == 24
    assert figures.weight_bytes == 4 * figures.parameters
    assert [row[0] for row in figures.rows()] == list(figures.operations)
    assert figures.as_dict()["name"] == "resnet50"
