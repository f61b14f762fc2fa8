"""The PyTorch modules of the zoo. Imported only where PyTorch is wanted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def _named(**layers: nn.Module | None) -> nn.Sequential:
    """A sequence whose layers have names, which become the names of operations."""
    return nn.Sequential(OrderedDict((n, layer) for n, layer in layers.items() if layer))


def _conv_norm(
    channels: int,
    out: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = nn.ReLU,
    eps: float = 1e-5,
) -> nn.Sequential:
    """Convolution without bias, batch norm, and maybe an activation."""
    return _named(
        conv=nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False),
        norm=nn.BatchNorm2d(out, eps=eps),
        act=activation() if activation else None,
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv_norm(channels, out, 3, stride)
        self.conv2 = _conv_norm(out, out, 3, activation=None)
        self.shortcut = (
            _conv_norm(channels, out, 1, stride, activation=None)
            if stride > 1 or channels != out
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.conv2(self.conv1(x)) + self.shortcut(x))


def resnet18() -> nn.Sequential:
    """ResNet-18 for ImageNet."""
    blocks: dict[str, nn.Module] = {}
    channels = 64
    for stage, (out, stride) in enumerate(((64, 1), (128, 2), (256, 2), (512, 2)), start=1):
        blocks[f"block{stage}a"] = BasicBlock(channels, out, stride)
        blocks[f"block{stage}b"] = BasicBlock(out, out, 1)
        channels = out
    return _named(
        stem=_conv_norm(3, 64, 7, 2),
        maxpool=nn.MaxPool2d(3, 2, 1),
        **blocks,
        avgpool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(512, 1000),
    )


class SqueezeExcite(nn.Module):
    """Channel gates from globally pooled features."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gates = functional.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.expand(functional.silu(self.reduce(gates))))


class InvertedResidual(nn.Module):
    """Expand, depthwise, (gate,) project: the block of MobileNetV2 and EfficientNet."""

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int,
        stride: int,
        expansion: int,
        activation: type[nn.Module],
        gated: bool,
    ) -> None:
        super().__init__()
        wide = channels * expansion
        expand = _conv_norm(channels, wide, 1, activation=activation) if expansion > 1 else None
        self.layers = _named(
            expand=expand,
            depthwise=_conv_norm(wide, wide, kernel, stride, wide, activation),
            gate=SqueezeExcite(wide, channels // 4) if gated else None,
            project=_conv_norm(wide, out, 1, activation=None),
        )
        self.residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


def _inverted(
    stem: int,
    rows: Sequence[tuple[int, int, int, int, int]],
    last: int,
    activation: type[nn.Module],
    gated: bool,
) -> nn.Sequential:
    """Stem, rows of (expansion, channels, repeats, stride, kernel), head, classifier."""
    blocks: dict[str, nn.Module] = {}
    channels = stem
    for expansion, out, repeats, stride, kernel in rows:
        for index in range(repeats):
            step = stride if index == 0 else 1
            block = InvertedResidual(channels, out, kernel, step, expansion, activation, gated)
            blocks[f"block{len(blocks) + 1}"] = block
            channels = out
    return _named(
        stem=_conv_norm(3, stem, 3, 2, activation=activation),
        **blocks,
        last=_conv_norm(channels, last, 1, activation=activation),
        avgpool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        dropout=nn.Dropout(0.2),
        fc=nn.Linear(last, 1000),
    )


def mobilenet_v2() -> nn.Sequential:
    """MobileNetV2, width 1.0 (table 2 of the paper)."""
    rows = (
        *((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3)),
        *((6, 96, 3, 1, 3), (6, 160, 3, 2, 3), (6, 320, 1, 1, 3)),
    )
    return _inverted(32, rows, 1280, nn.ReLU6, gated=False)


def efficientnet_b0() -> nn.Sequential:
    """EfficientNet-B0 (table 1 of the paper), SiLU activations, squeeze ratio 1/4 of the input."""
    rows = (
        *((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3)),
        *((6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)),
    )
    return _inverted(32, rows, 1280, nn.SiLU, gated=True)


def _double_conv(channels: int, out: int) -> nn.Sequential:
    return _named(
        conv1=nn.Conv2d(channels, out, 3),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(out, out, 3),
        relu2=nn.ReLU(),
    )


class UNet(nn.Module):
    """The original U-Net: unpadded convolutions, so that skips are cropped."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        widths = [64, 128, 256, 512, 1024]
        pairs = list(zip([1, *widths], widths, strict=False))
        self.down = nn.ModuleList(_double_conv(a, b) for a, b in pairs)
        rising = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in rising)
        self.merge = nn.ModuleList(_double_conv(a, b) for a, b in rising)
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for index, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if index else x)
            skips.append(x)
        skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x, skip = up(x), skips.pop()
            cut = (skip.shape[-1] - x.shape[-1]) // 2
            skip = skip[:, :, cut : cut + x.shape[-2], cut : cut + x.shape[-1]]
            x = merge(torch.cat((skip, x), 1))
        return self.head(x)


class SelfAttention(nn.Module):
    """Multi-head self-attention with one projection for query, key and value."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        split = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Encoder(nn.Module):
    """One transformer layer, normalising before (GPT, ViT) or after (BERT) each part."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        first: bool,
        causal: bool = False,
        approximate: str = "none",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.first = first
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.attention = SelfAttention(width, heads, causal)
        self.mlp = _named(
            up=nn.Linear(width, hidden),
            gelu=nn.GELU(approximate),
            down=nn.Linear(hidden, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            x = x + self.attention(self.norm1(x))
            return x + self.mlp(self.norm2(x))
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.mlp(x))


class Bert(nn.Module):
    """BERT-base encoder with pooler, all tokens of one segment."""

    def __init__(self, width: int = 768, depth: int = 12) -> None:
        super().__init__()
        self.words = nn.Embedding(30522, width)
        self.positions = nn.Embedding(512, width)
        self.segments = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.Sequential(
            *(Encoder(width, 12, 4 * width, first=False, eps=1e-12) for _ in range(depth))
        )
        self.pooler = nn.Linear(width, width)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        places = torch.arange(ids.shape[1], device=ids.device)
        embedded = self.words(ids) + self.positions(places) + self.segments(torch.zeros_like(ids))
        hidden = self.layers(self.norm(embedded))
        return hidden, torch.tanh(self.pooler(hidden[:, 0]))


class VisionTransformer(nn.Module):
    """ViT-B/16."""

    def __init__(self, width: int = 768, depth: int = 12, patch: int = 16, size: int = 224) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, (size // patch) ** 2 + 1, width))
        self.layers = nn.Sequential(
            *(Encoder(width, 12, 4 * width, first=True, eps=1e-6) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, 1000)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), 1) + self.positions
        return self.head(self.norm(self.layers(x))[:, 0])


class Gpt2(nn.Module):
    """GPT-2 small; the output embedding is the input embedding."""

    def __init__(self, width: int = 768, depth: int = 12, vocabulary: int = 50257) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(1024, width)
        self.layers = nn.Sequential(
            *(
                Encoder(width, 12, 4 * width, first=True, causal=True, approximate="tanh")
                for _ in range(depth)
            )
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)
        return self.head(self.norm(self.layers(self.words(ids) + self.positions(places))))
