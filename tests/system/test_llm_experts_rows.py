"""Compositions of experts on many designs: rows are the composition alone; memory is graded."""

import numpy as np
import pytest

from archsim.hardware import load_machine
from archsim.system.llm.composition import evaluate_experts
from archsim.system.llm.experts import Composition, evaluate_compositions
from archsim.workload import load_model

EXPERT = load_model("llama-2-7b")


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(
    ("machine", "home", "experts", "plan"),
    [("sn40lx8", "ddr", 150, "tp8"), ("h100x8", "host_dram", 40, "tp8"),
     ("sn40lx8", "ddr", 900, "tp4pp2"), ("h100", "host_dram", 20, "tp1")],
)  # fmt: skip
def test_a_row_is_the_composition_alone(machine, home, experts, plan, ahead):
    chip = load_machine(machine)
    of = Composition(EXPERT, EXPERT, experts, home, 512, 5, ahead=ahead)
    found = evaluate_compositions(of, chip, batch=[1, 8], plan=plan)
    for row, batch in enumerate([1, 8]):
        alone = evaluate_experts(
            EXPERT, chip, experts=experts, home=home, plan=plan, batch=batch, prompt=512, tokens=5,
            ahead=ahead,
        )  # fmt: skip
        assert found.slots[row] == alone.slots
        assert found.missing[row] == alone.missing
        assert found.switch_s[row] == pytest.approx(alone.switch_s, rel=1e-12)
        assert found.latency_s[row] == pytest.approx(alone.latency_s, rel=1e-12)
        assert found.energy_j[row] == pytest.approx(alone.energy_j, rel=1e-12)
        assert (found.overflow_bytes[row] > 0) == (not alone.fits)
        assert found.tokens[row] == batch * 5
    assert "experts at hand" in found.explain(1)


def test_more_memory_keeps_more_experts_and_waits_less():
    of = Composition(EXPERT, EXPERT, 150, "ddr", 512, 5, skew=1.0)
    hardware = {"tiers.hbm.capacity_bytes": np.array([0.5, 4, 8, 16, 64, 512]) * 1e9,
                "tiers.ddr.capacity_bytes": np.full(6, 1e11)}  # fmt: skip
    found = evaluate_compositions(
        of, load_machine("sn40lx8"), batch=8, plan="tp8", overrides=hardware
    )
    assert (np.diff(found.slots) >= 0).all()
    assert found.slots[0] == 0 < found.slots[-1]
    assert (np.diff(found.latency_s) <= 0).all()
    assert (np.diff(found.missing) <= 0).all()
    assert found.missing[-1] == 0
    memory, home = (found.beyond[k] for k in ("out of memory",
                                              "experts do not fit where they lie"))  # fmt: skip
    assert memory[0] > 0 == memory[1]
    # 150 experts of 13.5 GB are more than eight times 100 GB, unless all are at hand
    assert home[1] == pytest.approx(np.log(150 * 2 * EXPERT.parameters / 8e11), rel=1e-2)
    assert home[-1] == 0
    for row in (0, 3):
        one = evaluate_compositions(
            of, load_machine("sn40lx8"), batch=8, plan="tp8",
            overrides={path: values[row] for path, values in hardware.items()},
        )  # fmt: skip
        assert one.latency_s[0] == found.latency_s[row]
        assert one.energy_j[0] == found.energy_j[row]
