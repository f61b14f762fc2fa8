"""Multi-cycle and bit-serial MAC units: cycles, energy and area by operand width."""

from __future__ import annotations

import pytest

from archsim.errors import InputError
from archsim.hardware import components, load_machine, resolve
from archsim.hardware.machine import MACHINES
from archsim.system import evaluate

TEXT = (MACHINES / "tiny.yaml").read_text()
BITS = "engines.array.precision.input_bits"


def machine(tmp_path, mac):
    path = tmp_path / "machine.yaml"
    path.write_text(
        TEXT.replace("  - {name: simd", f"    mac: {{component: int_mac, {mac}}}\n  - {{name: simd")
    )
    return load_machine(path)


def test_cycles_follow_the_digits_of_the_serial_operands(tmp_path):
    def cycles(mac, bits):
        return resolve(machine(tmp_path, mac), {BITS: bits}).mac_cycles.tolist()

    bits = [1, 4, 8, 16]
    assert cycles("serial: [input]", bits) == [1, 4, 8, 16]  # Stripes: one input bit a cycle
    assert cycles("serial: [input, weight]", bits) == [8, 32, 64, 128]  # Loom: weights are 8 bit
    assert cycles("serial: [input], digit_bits: 3", bits) == [1, 2, 3, 6]
    assert cycles("serial: [input], cycles: 2", bits) == [2, 8, 16, 32]
    assert cycles("cycles: 4", bits) == [4, 4, 4, 4]


def test_a_serial_unit_is_a_narrow_one_used_often(tmp_path):
    serial = resolve(machine(tmp_path, "serial: [input]"))
    unit = components.int_mac(1, 8, 32, 45.0)
    assert serial.mac_energy_j[0] == pytest.approx(8 * float(unit["energy_j"]))
    assert serial.area_mm2["mac"][0] == pytest.approx(16 * float(unit["area_mm2"]))
    parallel = resolve(machine(tmp_path, "cycles: 1"))
    assert serial.area_mm2["mac"] < parallel.area_mm2["mac"]
    assert serial.max_clock_hz >= parallel.max_clock_hz


def test_compute_time_grows_by_the_steps(tmp_path):
    fast = evaluate("alexnet", machine(tmp_path, "cycles: 1"))
    slow = evaluate("alexnet", machine(tmp_path, "serial: [input]"))
    for a, b in zip(fast.layers, slow.layers, strict=True):
        if a.macs:
            assert b.bound == "compute"
            assert b.compute_cycles >= 8 * a.macs / 16
            assert b.compute_cycles >= a.compute_cycles


def test_double_buffering_halves_the_room_and_nothing_else(tmp_path):
    path = "engines.array.slots.buffer.double_buffered"
    single, double = load_machine("tiny"), load_machine("tiny").with_values({path: True})
    one, two = resolve(single), resolve(double)
    assert two.capacity_bits[0, 1] == one.capacity_bits[0, 1] / 2
    assert (two.read_energy_j == one.read_energy_j).all()
    assert two.total_area_mm2 == one.total_area_mm2


@pytest.mark.parametrize(
    ("mac", "words"),
    [
        ("serial: [output]", "input"),
        ("serial: [input, input]", "twice"),
        ("serial: [input], digit_bits: 0", "greater"),
    ],
)
def test_wrong_units_are_refused_in_words(tmp_path, mac, words):
    with pytest.raises(InputError, match=words):
        machine(tmp_path, mac)


def test_a_floating_point_unit_is_not_serial(tmp_path):
    path = tmp_path / "machine.yaml"
    path.write_text(
        TEXT.replace(
            "  - {name: simd", "    mac: {component: fp_mac, serial: [weight]}\n  - {name: simd"
        )
    )
    with pytest.raises(InputError, match="floating-point"):
        load_machine(path)
