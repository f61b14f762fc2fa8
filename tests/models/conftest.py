"""Fixtures of the model tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsim.errors import ArchsimError
from archsim.validate.references import references


@pytest.fixture
def refs():
    """Finds a folder of reference data; skips where there is none."""

    def find(folder: str) -> Path:
        try:
            return references(folder)
        except ArchsimError as error:
            pytest.skip(str(error))

    return find
