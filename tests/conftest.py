"""What all tests share: how hypothesis searches, and which tests stay together when they run side by side."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

from tests.effort import SEARCH, examples

# A busy machine must not fail a property, and the same commit gives the same answer everywhere: who wants to find more
# searches at random, with LAKEHOUSE_SEARCH. What was found is printed so that it can be repeated anywhere.
settings.register_profile(
    "house",
    deadline=None,
    print_blob=True,
    derandomize=not SEARCH,
    max_examples=examples(settings().max_examples),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("house")
if not SEARCH:
    # Hypothesis also tries constants of the modules that happen to be loaded, which differ from worker to worker.
    vars(providers)["is_local_module_file"] = lambda path: False


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps the tests of a module that starts a server on one worker, so that it starts once, each kind on its own."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        kinds = [kind for kind in ("kafka", "mariadb", "mysql", "postgres") if item.get_closest_marker(kind)]
        if kinds:
            item.add_marker(pytest.mark.xdist_group(f"{item.nodeid.split('::')[0]} {' '.join(kinds)}"))
