"""Schedules and interleaved updates beside simulations that share no code with them."""

import heapq
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.hardware import load_machine, resolve_node
from archsim.system.llm import evaluate_step
from archsim.system.llm.hosted import STATE_BYTES, Hosted
from archsim.system.llm.schedules import balanced, bubble_share, walk
from archsim.system.llm.tiers import tier_path
from archsim.system.llm.training import evaluate_training
from archsim.system.llm.training_setup import Host, Training
from archsim.workload.huggingface import model_of

TIMES = st.integers(1, 9).map(float)
SMALL = {
    "model_type": "llama", "vocab_size": 8, "hidden_size": 1024, "intermediate_size": 2816,
    "num_hidden_layers": 24, "num_attention_heads": 8, "num_key_value_heads": 8,
    "max_position_embeddings": 2048, "hidden_act": "silu", "tie_word_embeddings": True,
}  # fmt: skip


def lists(schedule, stages, micro):
    """What every stage does, in order, from the figures of the two papers."""
    found = []
    for k in range(stages):
        if schedule == "gpipe":  # all forward passes, then all backward passes, last one first
            found.append([("F", i) for i in range(micro)])
            found[-1] += [("B", i) for i in range(micro - 1, -1, -1)]
            continue
        todo, forward, backward = [], 0, 0
        while backward < micro:  # as many in flight as there are stages from here on
            if forward < micro and forward - backward < stages - k:
                todo.append(("F", forward))
                forward += 1
            else:
                todo.append(("B", backward))
                backward += 1
        found.append(todo)
    return found


def simulated(forward, backward, again, micro, schedule, send):
    """Event by event: a stage that is free starts the next of its list once its input is there."""
    stages = len(forward)
    todo = [list(reversed(each)) for each in lists(schedule, stages, micro)]
    arrived = {("F", i, 0): 0.0 for i in range(micro)}
    arrived |= {("B", i, stages - 1): 0.0 for i in range(micro)}
    ran_again, events, now = set(), [(0.0, k) for k in range(stages)], 0.0
    free = [0.0] * stages
    while events:
        now, k = heapq.heappop(events)
        if now < free[k] or not todo[k]:
            continue
        kind, i = todo[k][-1]
        if kind == "B" and (i, k) not in ran_again:  # needs nothing from the stage behind
            ran_again.add((i, k))
            free[k] = now + again[k]
            heapq.heappush(events, (free[k], k))
            continue
        ready = arrived.get((kind, i, k))
        if ready is None:
            continue  # woken by what is waited for
        if ready > now:
            heapq.heappush(events, (ready, k))
            continue
        todo[k].pop()
        free[k] = now + (forward if kind == "F" else backward)[k]
        heapq.heappush(events, (free[k], k))
        to = k + 1 if kind == "F" else k - 1
        if 0 <= to < stages:
            arrived[kind, i, to] = free[k] + send
            heapq.heappush(events, (arrived[kind, i, to], to))
        if kind == "F" and k == stages - 1:
            arrived["B", i, k] = free[k]
    assert not any(todo)
    return max(free)


def longest_path(forward, backward, again, micro, schedule, send):
    """The longest chain of passes that wait for one another."""
    stages = len(forward)
    before = {}
    for k, todo in enumerate(lists(schedule, stages, micro)):
        for last, (kind, i) in zip([None, *todo[:-1]], todo, strict=True):
            before[kind, i, k] = None if last is None else (*last, k)

    @cache
    def end(kind, i, k):
        own = end(*before[kind, i, k]) if before[kind, i, k] else 0.0
        if kind == "F":
            return max(own, end("F", i, k - 1) + send if k else 0.0) + forward[k]
        own += again[k]
        peer = end("B", i, k + 1) + send if k < stages - 1 else 0.0
        return max(own, peer) + backward[k]

    return max(end(*task) for task in before)


@given(
    st.lists(st.tuples(TIMES, TIMES, st.integers(0, 9).map(float)), min_size=1, max_size=5),
    st.integers(1, 7), st.integers(0, 3).map(float), st.sampled_from(["gpipe", "1f1b"]),
)  # fmt: skip
@settings(deadline=None, max_examples=150)
def test_a_walked_schedule_is_its_simulation_and_its_longest_chain(stages, micro, send, schedule):
    forward, backward, again = (list(times) for times in zip(*stages, strict=True))
    walked = walk(forward, backward, micro, schedule, send_s=send, again_s=again)
    given_ = forward, backward, again, micro, schedule, send
    assert walked.latency_s == simulated(*given_) == longest_path(*given_)
    for k, todo in enumerate(lists(schedule, len(stages), micro)):
        held = [sum(1 if kind == "F" else -1 for kind, _ in todo[:n]) for n in range(len(todo) + 1)]
        assert walked.held[k] == max(held)


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
@pytest.mark.parametrize(("stages", "micro"), [(2, 1), (4, 4), (4, 16), (8, 8), (8, 24)])
def test_a_step_of_equal_stages_idles_as_the_formula_says(stages, micro, schedule):
    # with free links and ends that are kernel launches only, 24 layers make stages almost equal
    machine = load_machine(f"h100x{stages}").with_values({
        "links.nvlink.bandwidth_bytes_per_s": 1e18, "links.nvlink.latency_s": 0.0
    })  # fmt: skip
    cost = evaluate_training(
        model_of(SMALL, "small"), machine, batch=micro, context=2048, plan=f"pp{stages}mb{micro}",
        how=Training(schedule=schedule, rematerialise=False),
    )  # fmt: skip
    assert 0 <= cost.bubble - bubble_share(stages, micro) < 0.01


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
def test_a_step_of_unequal_stages_is_their_simulation(schedule):
    model = model_of({**SMALL, "vocab_size": 64000, "num_hidden_layers": 7}, "uneven")
    machine, stages, micro, rows = load_machine("h100x4"), 4, 6, 2
    one = evaluate_step(model, machine, phase="prefill", batch=rows, context=512, all_logits=True)
    last = sum(one.calls_s[name][0] for name in ("final_norm", "head"))
    first = one.calls_s["embedding"][0]
    layer = (one.latency_s[0] - first - last) / 7
    forward = [first, *[layer] * 7, last]
    cuts = balanced(forward, stages)
    works = forward, [2 * w for w in forward], [0.0, *[layer] * 7, 0.0]
    times = [[sum(work[cut]) for cut in cuts] for work in works]
    handed = rows * 512 * 1024 * 2
    link = resolve_node(machine).links["nvlink"]
    send = link["latency_s"][0] + handed / link["bandwidth_bytes_per_s"][0]
    cost = evaluate_training(
        model, machine, batch=rows * micro, context=512, plan=f"pp4mb{micro}",
        how=Training(schedule=schedule),
    )  # fmt: skip
    expected = simulated(*times, micro, schedule, send)
    assert cost.forward_s + cost.backward_s == pytest.approx(expected, rel=0.01)


def hosted(share, *, subgroups, host=None, resident=0.0):
    machine = load_machine("h100x8")
    how = Training(zero=3, states="host_dram", device_share=share, resident=resident,
                   subgroup=10_000_000, host=host or Host())  # fmt: skip
    return machine, Hosted(machine, resolve_node(machine), how, "hbm", subgroups * 1e7, 2.0)


@given(
    st.integers(2, 40), st.floats(0.1, 1.0), st.sampled_from([0.05, 0.2, 0.5]),
)  # fmt: skip
@settings(deadline=None, max_examples=40)
def test_interleaved_updates_are_those_of_subgroups_one_by_one(subgroups, memory, share):
    """Host and devices update subgroups in turn; a link carries one copy a direction at a time."""
    machine, one = hosted(share, subgroups=subgroups, host=Host(memory_share=memory))
    into, outof = (tier_path(machine, one.node, *way)
                   for way in (("host_dram", "hbm"), ("hbm", "host_dram")))  # fmt: skip
    fetched = round(subgroups * share)
    size, touched, each = 1e7, 30.0, 8.0
    # memory is shared by what the host updates and what is copied meanwhile
    per_byte, copied = each / (614.4e9 * memory), each / (614.4e9 * 0.8)
    ours = one.update_s(touched)
    if fetched == 0 or abs(fetched / subgroups - share) > 1e-9:
        return
    cpu = fetch = put = device = 0.0
    stride, left = subgroups / fetched, fetched
    for group in range(subgroups):
        mine = left and group >= (fetched - left + 1) * stride - 1 - 1e-9
        if mine:
            left -= 1
            fetch += size * STATE_BYTES / into.bandwidth[0]
            cpu += 2 * size * STATE_BYTES * copied
            device = max(device, fetch) + size * touched / 3.352e12
            put = max(put, device) + size * STATE_BYTES / outof.bandwidth[0]
        else:
            cpu += size * (touched * per_byte + 2.0 * copied)
            fetch = max(fetch, cpu) + size * 2.0 / into.bandwidth[0]
    simulated_s = max(cpu, fetch, put, device)
    # the formula lets weights go back whenever a link is free; one by one they wait for the host
    group_s = size * max(STATE_BYTES / into.bandwidth[0], touched * per_byte)
    assert ours <= simulated_s * (1 + 1e-3)
    assert simulated_s <= ours + 3 * group_s + fetched * size * STATE_BYTES / into.bandwidth[0]
    if cpu > 2 * fetched * size * STATE_BYTES / into.bandwidth[0]:  # the host takes longest
        assert ours == pytest.approx(cpu, rel=1e-3)


@pytest.mark.parametrize("how", [{}, {"blocking": True}, {"overlap": False}, {"zero": 2}])
@pytest.mark.parametrize("tier", ["host_dram", "nvme"])
def test_states_elsewhere_are_never_faster_than_free_memory(how, tier):
    options = {"zero": 3, **how}
    near = {k: v for k, v in options.items() if k != "blocking"}
    given_ = {"batch": 8, "context": 1024, "plan": "dp8"}
    free = evaluate_training("llama-2-7b", "h100x8", how=Training(**near), **given_)
    away = evaluate_training("llama-2-7b", "h100x8", how=Training(**options, states=tier), **given_)
    assert away.latency_s >= free.latency_s
    assert away.forward_s == free.forward_s
    kept = evaluate_training(
        "llama-2-7b", "h100x8", how=Training(**near, activations=tier), **given_
    )
    assert kept.latency_s >= free.latency_s * (1 - 1e-12)
