"""Whole-network speed: designs a second through the vector environment, and single steps."""

from __future__ import annotations

import statistics
import time

import numpy as np

DESIGNS = 2048


def bench_network(repeat: int, scenario: str) -> list[tuple[str, str]]:
    """Designs a second through ``gym.make_vec(..., vectorization_mode="vector_entry_point")``."""
    import gymnasium as gym

    import archsim.envs  # noqa: F401 (registers the environments)

    env = gym.make_vec(
        "archsim/Accelerator-v0",
        num_envs=DESIGNS,
        vectorization_mode="vector_entry_point",
        scenario=scenario,
    )
    env.reset(seed=0)
    env.action_space.seed(0)
    env.step(env.action_space.sample())
    wall, cpu = [], []
    for _ in range(repeat):
        actions = env.action_space.sample()
        start, start_cpu = time.perf_counter(), time.process_time()
        env.step(actions)
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    env.close()
    return [
        (f"{scenario}: distinct random designs, wall clock", _rate(DESIGNS, wall, "designs/s")),
        (f"{scenario}: the same by CPU time", _rate(DESIGNS, cpu, "designs/core-s")),
    ]


def bench_step(repeat: int, scenario: str) -> list[tuple[str, str]]:
    """Latency of one ``env.step`` of the scalar environment."""
    import gymnasium as gym

    import archsim.envs  # noqa: F401

    env = gym.make("archsim/Accelerator-v0", scenario=scenario)
    env.reset(seed=0)
    env.action_space.seed(0)
    times = []
    for _ in range(50 * repeat):
        action = env.action_space.sample()
        start = time.process_time()
        *_, terminated, truncated, _ = env.step(action)
        times.append(time.process_time() - start)
        if terminated or truncated:
            env.reset()
    env.close()
    low, mid, high = np.quantile(times, [0.1, 0.5, 0.9]) * 1e3
    return [(f"{scenario}: one step, CPU time", f"{mid:.2f} ms ({low:.2f} to {high:.2f})")]


def _rate(count: int, times: list[float], unit: str) -> str:
    low, high = count / max(times), count / min(times)
    return f"{count / statistics.median(times):,.0f} {unit} ({low:,.0f} to {high:,.0f})"
