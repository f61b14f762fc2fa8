"""Projections of einsums touch exactly the words that the operation touches, by brute force."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.workload.builder import Builder, conv_einsum
from archsim.workload.graph import conv2d_einsum, matmul_einsum


def touched(einsum):
    """Every (data, weight, output) coordinate triple of the nest, in one list."""
    names = [name for name, _ in einsum.dims]
    triples = []
    for point in product(*(range(extent) for _, extent in einsum.dims)):
        at = dict(zip(names, point, strict=True))
        triples.append(
            tuple(
                tuple(sum(c * at[dim] for dim, c in rank) for rank in access.ranks)
                for access in einsum.operands
            )
        )
    return triples


def run(einsum, data, weight, shape):
    """Execute the nest on numbers: multiply-accumulate at the projected coordinates."""
    out = np.zeros(shape, np.int64)
    for a, b, c in touched(einsum):
        out[c] += data[a] * weight[b]
    return out


def convolve(data, weight, groups, stride, dilation):
    """Convolution of padded data by explicit loops over positions, from its definition."""
    n, _, height, width = data.shape
    m, per_group, r, s = weight.shape
    p = (height - dilation[0] * (r - 1) - 1) // stride[0] + 1
    q = (width - dilation[1] * (s - 1) - 1) // stride[1] + 1
    out = np.zeros((n, m, p, q), np.int64)
    for o in range(m):
        first = o // (m // groups) * per_group
        for y, x in product(range(p), range(q)):
            rows = slice(y * stride[0], y * stride[0] + dilation[0] * (r - 1) + 1, dilation[0])
            cols = slice(x * stride[1], x * stride[1] + dilation[1] * (s - 1) + 1, dilation[1])
            patch = data[:, first : first + per_group, rows, cols]
            out[:, o, y, x] = (patch * weight[o]).sum((1, 2, 3))
    return out


PAIR = st.tuples(st.integers(1, 2), st.integers(1, 2))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 2),
    st.sampled_from([1, 2]),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    PAIR,
    PAIR,
)
def test_convolution_nest_computes_the_convolution(
    batch, groups, channels, size, kernel, stride, dilation
):
    per_in, per_out = channels
    einsum = conv2d_einsum(
        "x",
        "w",
        "y",
        batch=batch,
        groups=groups,
        out_channels=per_out * groups,
        in_channels=per_in * groups,
        out_size=size,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
    )
    extent = [
        (o - 1) * s + (k - 1) * d + 1
        for o, s, k, d in zip(size, stride, kernel, dilation, strict=True)
    ]
    rng = np.random.default_rng(0)
    data = rng.integers(-9, 9, (batch, groups * per_in, *extent))
    weight = rng.integers(-9, 9, (groups * per_out, per_in, *kernel))
    expected = convolve(data, weight, groups, stride, dilation)
    grouped = data.reshape(batch, groups, per_in, *extent)
    filters = weight.reshape(groups, per_out, per_in, *kernel)
    result = run(einsum, grouped, filters, (batch, groups, per_out, *size))
    assert np.array_equal(result.reshape(expected.shape), expected)
    # the words touched are exactly those of the definition: no more, no fewer
    rows = {y * stride[0] + r * dilation[0] for y in range(size[0]) for r in range(kernel[0])}
    cols = {x * stride[1] + s * dilation[1] for x in range(size[1]) for s in range(kernel[1])}
    words = {a for a, _, _ in touched(einsum)}
    assert words == set(product(range(batch), range(groups), range(per_in), rows, cols))
    assert einsum.macs == len(touched(einsum))


@pytest.mark.parametrize("shared", [True, False])
def test_matmul_nest_computes_the_product(shared):
    rng = np.random.default_rng(1)
    data = rng.integers(-9, 9, (2, 3, 4))
    weight = rng.integers(-9, 9, (4, 5) if shared else (2, 4, 5))
    einsum = matmul_einsum("x", "w", "y", rows=3, inner=4, columns=5, batch=2, shared_weight=shared)
    assert np.array_equal(run(einsum, data, weight, (2, 3, 5)), data @ weight)
    assert len({b for _, b, _ in touched(einsum)}) == weight.size


def test_volume_convolution_computes_the_convolution():
    rng = np.random.default_rng(2)
    data, weight = rng.integers(-9, 9, (1, 2, 4, 3, 5)), rng.integers(-9, 9, (3, 2, 2, 2, 3))
    einsum = conv_einsum(
        "x",
        "w",
        "y",
        batch=1,
        groups=1,
        channels=(2, 3),
        kernel=(2, 2, 3),
        size=(2, 2, 3),
        stride=(2, 1, 1),
        dilation=(1, 1, 1),
    )
    expected = np.zeros((1, 3, 2, 2, 3), np.int64)
    for o, z, y, x in product(range(3), range(2), range(2), range(3)):
        expected[0, o, z, y, x] = (
            data[0, :, 2 * z : 2 * z + 2, y : y + 2, x : x + 3] * weight[o]
        ).sum()
    out = run(einsum, data[:, None], weight[None], (1, 1, 3, 2, 2, 3))
    # the nest writes (N, G, M, D, P, Q)
    assert np.array_equal(out.reshape(expected.shape), expected)


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (3, 1)])
def test_transposed_convolution_touches_what_scattering_does(kernel, stride):
    size = 3
    out = (size - 1) * stride + kernel
    builder = Builder("t")
    data = builder.tensor("x", (1, 2, size, size), role="input")
    weight = builder.tensor("w", (2, 3, kernel, kernel), role="weight")
    output = builder.tensor("y", (1, 3, out, out))
    builder.conv_transpose("t", data, weight, output, stride=(stride,) * 2, dilation=(1, 1))
    einsum = builder.operations[0].einsum
    rng = np.random.default_rng(3)
    x, w = rng.integers(-9, 9, (1, 2, size, size)), rng.integers(-9, 9, (2, 3, kernel, kernel))
    expected = np.zeros((1, 3, out, out), np.int64)
    for c, o, i, j in product(range(2), range(3), range(size), range(size)):
        window = (
            0,
            o,
            slice(i * stride, i * stride + kernel),
            slice(j * stride, j * stride + kernel),
        )
        expected[window] += x[0, c, i, j] * w[c, o]
    assert einsum.macs == x[0].size * 3 * kernel**2
    if kernel == stride:  # a pointwise convolution to 3 * kernel^2 channels
        filters = w.transpose(1, 2, 3, 0).reshape(1, -1, 2, 1, 1)
        flat = run(einsum, x[:, None], filters, (1, 1, 3 * kernel**2, size, size))
        patches = flat.reshape(3, kernel, kernel, size, size).transpose(0, 3, 1, 4, 2)
        result = patches.reshape(expected.shape)
    else:
        filters = w.transpose(1, 0, 2, 3)[None]
        result = run(einsum, x[:, None], filters, (1, 1, 3, out, out)).reshape(expected.shape)
    assert np.array_equal(result, expected)
