"""Files a user wrote: what is wrong is named, and the name that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsim.envs.scenario import SCENARIOS, load_scenario
from archsim.errors import InputError
from archsim.hardware import load_machine
from archsim.hardware.machine import MACHINES
from archsim.inputs import MAX_YAML_BYTES, read_text


@pytest.mark.parametrize(
    ("right", "wrong", "place"),
    [
        ("technology_nm", "technolgy_nm", "t.yaml: technolgy_nm"),
        ("lanes", "lane", "engines.simd"),
        ("axis: x", "axes: x", "slots.columns"),
        ("channels", "chanels", "tiers.dram"),
    ],
)
def test_a_misspelled_field_names_the_right_one(tmp_path: Path, right, wrong, place) -> None:
    file = tmp_path / "t.yaml"
    file.write_text((MACHINES / "tiny.yaml").read_text().replace(right, wrong, 1))
    with pytest.raises(InputError, match="no such field") as error:
        load_machine(file)
    assert f"did you mean {right.partition(':')[0]!r}?" in str(error.value)
    assert place in str(error.value)


def test_a_misspelled_choice_names_the_right_one(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text((MACHINES / "tiny.yaml").read_text().replace("weight_sta", "weigth_sta", 1))
    with pytest.raises(InputError, match="did you mean 'weight_stationary'"):
        load_machine(file)


def test_a_misspelled_field_of_a_scenario_names_the_right_one(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text((SCENARIOS / "smoke.yaml").read_text().replace("minimize:", "minimise:", 1))
    with pytest.raises(InputError, match="did you mean 'minimize'"):
        load_scenario(file)


def test_a_name_like_no_other_gets_no_guess() -> None:
    assert "did you mean" not in str(InputError("no", found="zzzzz", expected="one, two, ten, six"))
    assert "did you mean" not in str(InputError("no", found=3, expected="one, two, ten, six"))


def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(InputError, match=str(MAX_YAML_BYTES)):
        read_text("/dev/zero")


def test_line_ends_and_byte_order_marks_are_read_over(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r")
    assert read_text(tmp_path / "a") == "a: 1\nb: 2\n"
