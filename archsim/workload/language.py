"""Language models (and encoders) as graphs: a model, a step, and the operations of that step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from archsim.errors import InputError
from archsim.workload.architecture import (
    Architecture,
    Experts,
    Layer,
    cached_per_token,
    repeated,
)
from archsim.workload.emitter import Emitter
from archsim.workload.graph import Block, Workload
from archsim.workload.mixers import MIXERS
from archsim.workload.steps import Bits, Request, Routing, grouped, requests_of

LATENT_FORMS = ("auto", "absorbed", "unabsorbed")


@dataclass(frozen=True)
class LanguageModel:
    """A model whose steps can be written out as workloads.

    Attributes:
        name: Short name.
        architecture: What it is made of.
        source: Where its figures come from.
        published: Published figures by name, e.g. ``parameters``.
    """

    name: str
    architecture: Architecture
    source: str = ""
    published: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def parameters(self) -> int:
        """Elements of all weights."""
        return self._smallest.parameters

    @cached_property
    def active_parameters(self) -> int:
        """Elements of the weights one token uses: all but the experts it is not sent to."""
        idle = 0
        for tensor, copies in self._smallest.tensor_copies.items():
            if ".experts." in tensor and tensor.endswith(".weight"):
                moe = self._experts[self._smallest.tensors[tensor].shape[0]]
                each = self._smallest.tensors[tensor].elements * copies // moe.experts
                idle += each * (moe.experts - moe.top_k)
        return self.parameters - idle

    @cached_property
    def active_read_parameters(self) -> int:
        """As ``active_parameters``, without a token embedding that only one row is read of."""
        return self.active_parameters - (0 if self.architecture.tied else self._held("embedding"))

    @cached_property
    def active_layer_parameters(self) -> int:
        """As ``active_parameters``, without the token embedding and the output projection."""
        return self.active_parameters - self._held("embedding") - self._held("head")

    def _held(self, end: str) -> int:
        tensor = self._smallest.tensors.get(f"{end}.weight")
        return tensor.elements if tensor else 0

    @property
    def _experts(self) -> dict[int, Experts]:
        parts = (layer.ffn for layer in self.architecture.layers)
        return {ffn.experts: ffn for ffn in parts if isinstance(ffn, Experts)}

    @cached_property
    def _smallest(self) -> Workload:
        return self.workload("prefill", context=self.image_tokens or 1)

    @property
    def image_tokens(self) -> int:
        """Tokens of an image, for a vision model; 0 for text."""
        patches = self.architecture.patches
        return patches.tokens if patches else 0

    def kv_bytes_per_token(self, bits: Bits | None = None) -> float:
        """Bytes the cache grows by with one token, all layers (windows not yet full)."""
        kv = (bits or Bits()).kv
        return self.architecture.cached_elements_per_token * kv / 8 if self._caches else 0.0

    def state_bytes_per_request(self, bits: Bits | None = None) -> float:
        """Bytes of recurrent state a request keeps, however long it is (taps counted alike)."""
        return self.architecture.state_elements_per_request * (bits or Bits()).state / 8

    @property
    def _caches(self) -> bool:
        return self.architecture.causal

    def cache_bytes(self, requests: Iterable[Request], bits: Bits | None = None) -> float:
        """Bytes of all caches and states once a step is done; a window holds what it can see."""
        workload = self.step(requests, bits=bits)
        copies = workload.tensor_copies
        return sum(
            t.size_bytes * copies[t.name] for t in workload.tensors.values() if t.role == "kv_cache"
        )

    def flops_per_token(self, context: int = 1) -> int:
        """Operations of one token at the end of a context: two a MAC, and vector operations."""
        step = self.workload("decode" if self._caches else "prefill", context=context)
        copies = step.copies
        total = sum((2 * op.macs + op.vector_ops) * copies[op.name] for op in step.operations)
        return total if self._caches else total // context

    def workload(
        self,
        phase: str = "decode",
        *,
        batch: int = 1,
        context: int = 1,
        new: int | None = None,
        **options: Any,
    ) -> Workload:
        """One step of equal requests.

        Args:
            phase: ``prefill`` or ``decode``.
            batch: Requests.
            context: Tokens in each one's cache once the step is done.
            new: Tokens each computes; default all of the context (prefill) or one (decode).
            **options: As for :meth:`step`.
        """
        return self.step(requests_of(phase, batch, context, new), **options)

    def step(
        self,
        requests: Iterable[Request],
        *,
        bits: Bits | None = None,
        routing: Routing | None = None,
        latent: str = "auto",
        all_logits: bool = False,
    ) -> Workload:
        """One step of any requests; equal layers are blocks (``archsim.workload.unfold``).

        Args:
            requests: New tokens and contexts.
            bits: Bits an element by what it is.
            routing: How tokens spread over experts.
            latent: Form of latent attention: ``absorbed`` (heads read the latent cache),
                ``unabsorbed`` (keys and values of the context are projected up first), ``auto``
                (absorbed where at most a quarter of the context is new).
            all_logits: Score every token rather than the last of each request.

        Raises:
            InputError: The step does not fit the model.
        """
        many = grouped(requests)
        self._check(many, latent)
        emitter = Emitter(
            self.name,
            self.architecture.width,
            many,
            bits or Bits(),
            routing or Routing(),
            latent,
        )
        return _Graph(self, emitter).workload(all_logits)

    def _check(self, requests: tuple[Request, ...], latent: str) -> None:
        arch = self.architecture
        if latent not in LATENT_FORMS:
            raise InputError(
                "no such form of latent attention",
                field="latent",
                found=latent,
                expected=", ".join(LATENT_FORMS),
            )
        longest = max(request.context for request in requests)
        if arch.longest and longest > arch.longest:
            raise InputError(
                "the context is longer than the model has positions for",
                source=self.name,
                field="context",
                found=longest,
                expected=f"at most {arch.longest}",
            )
        partial = [request for request in requests if request.new != request.context]
        if not arch.causal and partial:
            raise InputError(
                "an encoder has no cache: all tokens are new (phase prefill)",
                source=self.name,
                field="new",
                found=partial[0].new,
                expected=str(partial[0].context),
            )
        if arch.patches and any(r.new != arch.patches.tokens for r in requests):
            raise InputError(
                "an image of this model has a fixed number of tokens",
                source=self.name,
                field="context",
                found=longest,
                expected=str(arch.patches.tokens),
            )


class _Graph:
    """Emits a whole model."""

    def __init__(self, model: LanguageModel, emitter: Emitter) -> None:
        self.model, self.arch, self.emit = model, model.architecture, emitter
        self.blocks: list[Block] = []
        given = emitter.bits
        self.embedding_bits = given.activation if given.embedding is None else given.embedding

    def workload(self, all_logits: bool) -> Workload:
        data = self.patches() if self.arch.patches else self.embedding()
        start = 0
        stretches = repeated(self.arch.layers)
        for pattern, count in stretches:
            name = "layers" if len(stretches) == 1 else f"layers{start}"
            data = self.stretch(name, pattern, count, start, data)
            start += len(pattern) * count
        if self.arch.final_norm:
            data = self.norm("final_norm", data)
        out = self.head(data, all_logits)
        made = self.emit.builder.workload([out], self.model.source)
        return replace(made, blocks=tuple(self.blocks))

    def norm(self, name: str, data: str) -> str:
        return self.emit.norm(name, self.arch.norm, data, bias=self.arch.norm_bias)

    # ------------------------------------------------------------------------------- the ends
    def embedding(self) -> str:
        emit, arch = self.emit, self.arch
        tokens = emit.tokens
        ids = emit.builder.tensor("tokens", (tokens,), 32.0, "input")
        parts = []
        for name, rows in (
            ("embedding", arch.vocabulary),
            ("positions", arch.positions),
            ("token_types", arch.token_types),
        ):
            if not rows:
                continue
            table = emit.weight(f"{name}.weight", rows, arch.width, bits=self.embedding_bits)
            part = emit.activation(name, tokens, arch.width)
            emit.counted(name, "gather", (table, ids), (part,), 0)
            parts.append(part)
        data = parts[0]
        for index, part in enumerate(parts[1:]):
            data = emit.vector(f"embedded.{index}", "add", data, part)
        return self.norm("embedding_norm", data) if arch.embedding_norm else data

    def patches(self) -> str:
        emit, arch = self.emit, self.arch
        patches = arch.patches
        assert patches is not None
        images = sum(request.count for request in emit.requests)
        inner, each = patches.channels * patches.patch**2, patches.tokens - 1
        image = emit.builder.tensor("image", (images * each, inner), 8.0, "input")
        data = emit.linear("patches", image, arch.width, bias=True)
        token = emit.weight("class_token", 1, arch.width, bits=emit.bits.activation)
        whole = emit.activation("with_class", emit.tokens, arch.width)
        emit.counted("with_class", "concat", (data, token), (whole,), 0)
        table = emit.weight("positions.weight", patches.tokens, arch.width)
        out = emit.activation("embedded", emit.tokens, arch.width)
        ops = emit.tokens * arch.width
        emit.counted("embedded", "add", (whole, table), (out,), ops)
        return out

    def head(self, data: str, all_logits: bool) -> str:
        emit, arch = self.emit, self.arch
        if not (arch.head or arch.pooler):
            return data
        last = sum(request.count for request in emit.requests)
        masked = not arch.causal and not arch.pooler and not arch.patches
        if not all_logits and not masked and last != emit.tokens:
            picked = emit.activation("last", last, arch.width)
            emit.counted("last", "gather", (data,), (picked,), 0)
            data = picked
        if arch.pooler:
            data = emit.vector(
                "pooler.act", "tanh", emit.linear("pooler", data, arch.width, bias=True)
            )
        if not arch.head:
            return data
        weight = "embedding.weight" if arch.tied else None
        return emit.linear(
            "head", data, arch.head, bias=arch.head_bias, weight=weight, bits=self.embedding_bits
        )

    # -------------------------------------------------------------------------------- layers
    def stretch(
        self, name: str, pattern: tuple[Layer, ...], count: int, start: int, data: str
    ) -> str:
        """A pattern of layers, as a block that stands for its repetitions."""
        first = len(self.emit.builder.operations)
        out = data
        for index, layer in enumerate(pattern):
            part = name if len(pattern) == 1 else f"{name}.{index}"
            out = self.layer(part, layer, out)
        made = self.emit.builder.operations
        start = start if len(pattern) == 1 else 0
        self.blocks.append(
            Block(name, count, made[first].name, made[-1].name, ((data, out),), (), start)
        )
        return out

    def layer(self, name: str, layer: Layer, data: str) -> str:
        def mix(source: str) -> str:
            label = "attention" if cached_per_token(layer.mixer) else "mixer"
            mixer = layer.mixer
            return MIXERS[type(mixer)](
                self.emit, f"{name}.{label}", source, mixer, self.arch.causal
            )

        def feed(source: str) -> str:
            if isinstance(layer.ffn, Experts):
                return self.emit.experts(f"{name}.moe", source, layer.ffn)
            assert layer.ffn is not None
            return self.emit.feed_forward(f"{name}.mlp", source, layer.ffn)

        add = self.emit.vector
        if layer.norms in ("parallel", "parallel_two"):
            normed = self.norm(f"{name}.norm", data)
            other = normed if layer.norms == "parallel" else self.norm(f"{name}.norm2", data)
            both = add(f"{name}.add", "add", mix(normed), feed(other))
            return add(f"{name}.add2", "add", both, data)
        parts = [("", mix)] if layer.ffn is None else [("", mix), ("2", feed)]
        for tail, part in parts:
            source = data if layer.norms == "post" else self.norm(f"{name}.norm{tail}", data)
            out = part(source)
            if layer.norms == "sandwich":
                out = self.norm(f"{name}.post_norm{tail}", out)
            data = add(f"{name}.add{tail}", "add", out, data)
            if layer.norms == "post":
                data = self.norm(f"{name}.norm{tail}", data)
        return data


@dataclass(frozen=True)
class ModelSummary:
    """Figures of a model at one step.

    Attributes:
        name: Its name.
        parameters: Elements of all weights.
        active_parameters: Elements of the weights one token uses.
        kv_bytes_per_token: Growth of the cache with a token.
        state_bytes_per_request: Recurrent state.
        flops_per_token: Operations of a token in this step, on average.
        flops: Operations of the step: two a MAC, and vector operations.
        macs: Multiply-accumulates of the step.
        weight_bytes: Bytes of all weights.
        cache_bytes: Bytes of all caches and states once the step is done.
        tokens: New tokens of the step.
        layers: Layers.
        distinct_layers: Layers that differ.
    """

    name: str
    parameters: int
    active_parameters: int
    kv_bytes_per_token: float
    state_bytes_per_request: float
    flops_per_token: float
    flops: int
    macs: int
    weight_bytes: float
    cache_bytes: float
    tokens: int
    layers: int
    distinct_layers: int


def model_summary(
    model: LanguageModel, requests: Iterable[Request], bits: Bits | None = None, **options: Any
) -> ModelSummary:
    """Count what a step of a model holds; options as for ``LanguageModel.step``."""
    many = grouped(requests)
    workload = model.step(many, bits=bits, **options)
    copies, tensor_copies = workload.copies, workload.tensor_copies
    vector = sum(op.vector_ops * copies[op.name] for op in workload.operations)
    flops = 2 * workload.macs + vector
    tokens = sum(request.new * request.count for request in many)

    def held(role: str) -> float:
        return sum(
            t.size_bytes * tensor_copies[t.name]
            for t in workload.tensors.values()
            if t.role == role
        )

    return ModelSummary(
        model.name,
        model.parameters,
        model.active_parameters,
        model.kv_bytes_per_token(bits),
        model.state_bytes_per_request(bits),
        flops / tokens,
        flops,
        workload.macs,
        held("weight"),
        held("kv_cache"),
        tokens,
        len(model.architecture.layers),
        len(set(model.architecture.layers)),
    )
