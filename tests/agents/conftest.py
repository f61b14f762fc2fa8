"""Fixtures of the tests of the searchers."""

from __future__ import annotations

import agent_runs
import pytest


@pytest.fixture
def search():
    """See `agent_runs.recorded_search`."""
    return agent_runs.recorded_search
