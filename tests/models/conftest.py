"""Fixtures of the model tests."""

from __future__ import annotations

from pathlib import Path

import numba
import pytest

from archsim.errors import ArchsimError
from archsim.validate.references import references


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Most tests evaluate single rows: waking other threads costs more than it saves."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


@pytest.fixture
def refs():
    """Finds a folder of reference data; skips where there is none."""

    def find(folder: str) -> Path:
        try:
            return references(folder)
        except ArchsimError as error:
            pytest.skip(str(error))

    return find
