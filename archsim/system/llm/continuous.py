"""Continuous batching: stages of a full batch whose finished requests are replaced at once.

A stage makes one token for every request that decodes and reads the whole prompt of every request
that came in (Orca's iterations; Duplex, MICRO'24, section 2). Lengths are normal around their
means. Stages are walked exactly; those with as many prompts are priced together, at the mean of
their contexts, since the time of attention is linear in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError
from archsim.hardware import Machine, load_machine
from archsim.system.llm.evaluate import evaluate_step
from archsim.system.llm.mixed import Share
from archsim.system.llm.plan import Plan
from archsim.system.llm.resolved import resolved
from archsim.workload.architecture import Experts
from archsim.workload.huggingface import load_model
from archsim.workload.language import LanguageModel
from archsim.workload.steps import Bits

Floats = NDArray[np.float64]
#: Standard deviation of lengths over their mean. Duplex says normal, not how wide: assumed.
SPREAD = 0.1
#: Rounds of requests that are walked after a first one that is left out.
ROUNDS = 3
_STEPS = 20  # imbalances are told apart by a twentieth


@dataclass(frozen=True, eq=False)
class Stages:
    """Kinds of stages, by the number of prompts in them; float64[K].

    Attributes:
        weight: Share of all stages.
        prompts: Requests whose prompt is read.
        prompt: Mean length of those.
        decoding: Requests that decode.
        context: Mean context of these, with the new token.
    """

    weight: Floats
    prompts: Floats
    prompt: Floats
    decoding: Floats
    context: Floats


def walk_stages(
    batch: int, prompt: float, output: float, *, spread: float = SPREAD, seed: int = 0
) -> Stages:
    """Walk a full batch through some rounds of requests.

    Args:
        batch: Requests in flight.
        prompt: Mean tokens of a prompt.
        output: Mean tokens of an answer.
        spread: Standard deviation of both over their means.
        seed: Of the lengths.

    Raises:
        InputError: A size is not positive.

    Example:
        >>> stages = walk_stages(8, 100, 50)
        >>> round(float(stages.weight.sum()), 6), round(float(stages.weight @ stages.prompts), 2)
        (1.0, 0.15)
    """
    if batch < 1 or prompt < 1 or output < 1 or spread < 0:
        raise InputError(
            "batch and lengths must be positive", found=(batch, prompt, output, spread)
        )
    rng = np.random.default_rng(seed)

    def lengths(mean: float, many: int) -> NDArray[np.int64]:
        return np.maximum(np.rint(rng.normal(mean, spread * mean, many)), 1).astype(np.int64)

    asked, wanted = lengths(prompt, batch), lengths(output, batch)
    # A first round at random places, so that requests do not end together.
    made = (rng.random(batch) * wanted).astype(np.int64)
    made = np.maximum(made, 1)
    fresh = np.zeros(batch, dtype=bool)
    rows: dict[int, list[float]] = {}
    for stage in range(int((ROUNDS + 1) * output)):
        old = ~fresh
        if stage >= output:
            many = int(fresh.sum())
            row = rows.setdefault(many, [0.0] * 4)
            row[0] += 1.0
            row[1] += asked[fresh].sum()
            row[2] += old.sum()
            row[3] += (asked[old] + made[old] + 1).sum() if old.any() else 0.0
        made = np.where(fresh, 1, made + 1)
        ended = made >= wanted
        fresh = ended
        if ended.any():
            asked[ended] = lengths(prompt, int(ended.sum()))
            wanted[ended] = lengths(output, int(ended.sum()))
            made[ended] = 0
    kinds = sorted(rows)
    count = np.array([rows[k][0] for k in kinds])
    prompts = np.array(kinds, float)
    read, decoding, held = (np.array([rows[k][i] for k in kinds]) for i in (1, 2, 3))
    return Stages(
        weight=count / count.sum(),
        prompts=prompts,
        prompt=np.maximum(np.rint(read / np.maximum(count * prompts, 1)), 1),
        decoding=decoding / count,
        context=np.maximum(np.rint(held / np.maximum(decoding, 1)), 1),
    )


@dataclass(frozen=True, eq=False)
class Served:
    """What continuous batching makes of a machine.

    Attributes:
        tokens_per_s: Answers' tokens of all requests.
        joules_per_token: Of these.
        stage_s: Mean time of a stage: the time between a request's tokens.
        slowest_s: Time of the slowest kind of stage.
    """

    tokens_per_s: float
    joules_per_token: float
    stage_s: float
    slowest_s: float


def fullest_share(groups: int, pairs: Floats) -> Floats:
    """Expected load of the fullest of some groups over the mean, under uniform choice.

    The normal approximation of a multinomial's largest count (Blom's score of the largest of
    ``groups``).

    Example:
        >>> fullest_share(4, np.array([64.0, 6400.0])).round(2).tolist()
        [1.23, 1.02]
    """
    from scipy.stats import norm

    if groups == 1:
        return np.ones_like(pairs)
    score = norm.ppf((groups - 0.375) / (groups + 0.25))
    mean = np.maximum(pairs, 1.0) / groups
    return np.minimum(1.0 + score * np.sqrt((1.0 - 1.0 / groups) / mean), groups)


def _top_k(model: LanguageModel) -> int:
    layers = (layer.ffn for layer in model.architecture.layers)
    return max((ffn.top_k for ffn in layers if isinstance(ffn, Experts)), default=0)


def serve_continuously(
    model: LanguageModel | str,
    machine: Machine | str,
    stages: Stages | Sequence[Stages],
    plan: Plan | str = "tp1",
) -> list[Served]:
    """Throughput and energy of one or several stage mixes on a machine.

    Experts are chosen uniformly; where they are dealt out over groups of devices, a stage waits for
    the fullest group.

    Raises:
        InputError: As :func:`evaluate_step`.
    """
    mixes = [stages] if isinstance(stages, Stages) else list(stages)
    found_model = load_model(model) if isinstance(model, str) else model
    ready = resolved(load_machine(machine) if isinstance(machine, str) else machine, Bits(), {})
    laid = Plan.parse(plan) if isinstance(plan, str) else plan
    column = {
        name: np.concatenate([getattr(mix, name) for mix in mixes])
        for name in ("weight", "prompts", "prompt", "decoding", "context")
    }
    decoding = np.maximum(np.rint(column["decoding"]), 0)
    pairs = (decoding + column["prompts"] * column["prompt"]) * _top_k(found_model)
    # Rows of about the same imbalance are priced together.
    fullest = np.rint(fullest_share(laid.expert, pairs) * _STEPS) / _STEPS

    def priced(rows: Any, imbalance: float) -> tuple[Floats, Floats]:
        prompt = column["prompt"][rows]
        cost = evaluate_step(
            found_model, ready, batch=decoding[rows], context=column["context"][rows], plan=laid,
            beside=[Share(column["prompts"][rows], prompt, prompt)], imbalance=imbalance,
        )  # fmt: skip
        return np.array(cost.latency_s), cost.energy_j - ready.bill.idle_w * cost.latency_s

    # All groups wait for the fullest one; what they move and compute together is the mean's.
    seconds, joules = priced(slice(None), 1.0)
    for value in np.unique(fullest[fullest > 1.0]):
        rows = fullest == value
        seconds[rows] = priced(rows, float(value))[0]
    joules = joules + ready.bill.idle_w * seconds
    found, start = [], 0
    for mix in mixes:
        mine = slice(start, start + len(mix.weight))
        start = mine.stop
        # A prompt yields a token, too.
        tokens = float(mix.weight @ (mix.decoding + mix.prompts))
        time = float(mix.weight @ seconds[mine])
        found.append(
            Served(
                tokens / time,
                float(mix.weight @ joules[mine]) / tokens,
                time,
                float(seconds[mine].max()),
            )
        )
    return found
