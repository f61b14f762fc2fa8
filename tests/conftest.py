"""Settings of the whole suite."""

import os

from hypothesis import settings

# A build must not turn red by chance: there, Hypothesis draws the same examples every time. Runs at
# a desk draw new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
