"""Fixtures of the environment tests."""

from __future__ import annotations

import pytest
from analytic_problem import AnalyticProblem


@pytest.fixture
def problem() -> AnalyticProblem:
    return AnalyticProblem()
