"""Small networks of many agents, evaluated together: one matrix product for all of them.

A team has an agent a parameter or a subsystem, and each its own network of a few dozen units.
Looped over, such networks spend their time in calls; stacked along a first axis they do not.
Imports torch: import it only where a search begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor


class Networks:
    """K networks of one shape: tanh layers, a linear output.

    Args:
        count: K.
        inputs: Inputs of each.
        hidden: Units of the hidden layers.
        outputs: Outputs of each.
        generator: Draws the first weights.
        gain: Scale of the output's first weights.
    """

    def __init__(
        self,
        count: int,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        generator: torch.Generator,
        gain: float = 1.0,
    ) -> None:
        sizes = (inputs, *hidden, outputs)
        self.weights, self.biases = [], []
        for at, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            scale = (gain if at == len(hidden) else 1.0) / fan_in**0.5
            weight = torch.randn(count, fan_in, fan_out, generator=generator) * scale
            self.weights.append(weight.requires_grad_())
            self.biases.append(torch.zeros(count, 1, fan_out, requires_grad=True))

    def __call__(self, inputs: Tensor) -> Tensor:
        """Outputs f4[K, B, O] of inputs f4[B, I] that all share, or f4[K, B, I] of their own."""
        layers = list(zip(self.weights, self.biases, strict=True))
        found = inputs.expand(len(self.weights[0]), *inputs.shape[-2:])
        for at, (weight, bias) in enumerate(layers):
            found = torch.baddbmm(bias, found, weight)
            if at < len(layers) - 1:
                found = torch.tanh(found)
        return found

    def parameters(self) -> Iterator[Tensor]:
        """What is learned."""
        yield from self.weights
        yield from self.biases


class Heads:
    """A network an agent, with one head for each parameter the agent decides.

    Args:
        owner: i8[P], the agent of every parameter.
        sizes: i8[P], values of every parameter.
        inputs: Entries of an observation.
        hidden: Units of the hidden layers, at least one.
        generator: Draws the first weights.
    """

    def __init__(
        self,
        owner: np.ndarray,
        sizes: np.ndarray,
        inputs: int,
        hidden: Sequence[int],
        generator: torch.Generator,
    ) -> None:
        *first, width = hidden
        self._owner = torch.as_tensor(owner)
        self._beyond = torch.arange(int(sizes.max())) >= torch.as_tensor(sizes)[:, None]
        self._trunk = Networks(int(owner.max()) + 1, inputs, first, width, generator)
        self._heads = Networks(len(sizes), width, (), int(sizes.max()), generator, gain=0.01)

    def __call__(self, observations: Tensor) -> Tensor:
        """f4[P, B, C] for f4[B, S]: a number for every value; minus infinity beyond the last."""
        found = self._heads(torch.tanh(self._trunk(observations))[self._owner])
        return found.masked_fill(self._beyond[:, None, :], -torch.inf)

    def parameters(self) -> Iterator[Tensor]:
        """What is learned."""
        yield from self._trunk.parameters()
        yield from self._heads.parameters()


def draw(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Sample every parameter from its categorical distribution: i8[P, B] of f4[P, B, C]."""
    waits = torch.empty_like(logits).exponential_(generator=generator)
    # of exponential clocks with these rates, value c rings first with probability softmax(c)
    return (logits - waits.log()).argmax(dim=2)


def chosen(numbers: Tensor, actions: Tensor) -> Tensor:
    """f4[P, B]: of f4[P, B, C], the numbers of the values i8[P, B]."""
    return numbers.gather(2, actions[..., None])[..., 0]


def per_agent(numbers: Tensor, owner: np.ndarray) -> Tensor:
    """f4[A, B]: numbers of parameters, f4[P, B], added up over what each agent decides."""
    sums = torch.zeros(int(owner.max()) + 1, numbers.shape[1])
    return sums.index_add(0, torch.as_tensor(owner), numbers)


def standardised(numbers: Tensor) -> Tensor:
    """Over the last axis: mean 0 and, where they differ at all, standard deviation 1."""
    spread = numbers.std(dim=-1, keepdim=True, unbiased=False)
    centred = numbers - numbers.mean(dim=-1, keepdim=True)
    return torch.where(spread > 1e-8, centred / spread.clamp_min(1e-8), 0.0)


class Replay:
    """What was chosen and what it earned, the latest of it.

    Args:
        capacity: Rows kept.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.columns: list[Tensor] = []

    def add(self, *columns: Tensor) -> None:
        """Append rows [B, ...] of every column."""
        if not self.columns:
            self.columns = [column[:0] for column in columns]
        pairs = zip(self.columns, columns, strict=True)
        self.columns = [torch.cat(pair)[-self.capacity :] for pair in pairs]

    def sample(self, size: int, generator: torch.Generator) -> list[Tensor]:
        """Rows drawn at random, with replacement."""
        rows = torch.randint(len(self.columns[0]), (size,), generator=generator)
        return [column[rows] for column in self.columns]


class ChoiceCritic:
    """A network that sees an observation and what all agents chose.

    Args:
        sizes: i8[P], values of every parameter.
        inputs: Entries of an observation.
        hidden: Units of the hidden layers, at least one.
        outputs: Numbers it gives.
        generator: Draws the first weights.
    """

    def __init__(
        self,
        sizes: np.ndarray,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        generator: torch.Generator,
    ) -> None:
        first, *rest = hidden
        self._offsets = torch.as_tensor(np.cumsum(sizes) - sizes)
        table = torch.randn(int(sizes.sum()), first, generator=generator) / len(sizes) ** 0.5
        self._table = table.requires_grad_()
        self._observed = Networks(1, inputs, (), first, generator)
        self._rest = Networks(1, first, rest, outputs, generator)

    def __call__(self, observations: Tensor, actions: Tensor) -> Tensor:
        """f4[B, O] for f4[B, S] and i8[B, P]."""
        rows = torch.nn.functional.embedding_bag(actions + self._offsets, self._table, mode="sum")
        return self._rest(torch.tanh(rows + self._observed(observations)[0]))[0]

    def parameters(self) -> Iterator[Tensor]:
        """What is learned."""
        yield self._table
        yield from self._observed.parameters()
        yield from self._rest.parameters()


class Mixer:
    """What the worths of all agents' choices make together; rises with each of them.

    Args:
        agents: A.
        inputs: Entries of an observation: it decides the weights, which are never negative.
        units: Units of the hidden layer.
        generator: Draws the first weights.
    """

    def __init__(self, agents: int, inputs: int, units: int, generator: torch.Generator) -> None:
        self._shape = (agents, units)
        parts = agents * units + 2 * units
        self._weights = Networks(1, inputs, (), parts, generator)
        # weights of the first layer near 1 / A each, so that nobody is left out at the start
        with torch.no_grad():
            self._weights.biases[0][..., : agents * units] += 1.0 / agents
            self._weights.biases[0][..., -units:] += 1.0 / units
        self._floor = Networks(1, inputs, (units,), 1, generator)

    def __call__(self, worths: Tensor, observations: Tensor) -> Tensor:
        """f4[B] for worths f4[A, B] and observations f4[B, S]."""
        agents, units = self._shape
        first, bias, second = self._weights(observations)[0].split(
            [agents * units, units, units], dim=1
        )
        first = first.abs().reshape(-1, agents, units)
        hidden = torch.nn.functional.elu(torch.einsum("ab,bau->bu", worths, first) + bias)
        return (hidden * second.abs()).sum(1) + self._floor(observations)[0, :, 0]

    def parameters(self) -> Iterator[Tensor]:
        """What is learned."""
        yield from self._weights.parameters()
        yield from self._floor.parameters()
