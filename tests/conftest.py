"""Markers and options shared by all tests.

``slow``     runs only with --slow, else skipped with a reason.
``target``   names a capability that needs more than Python (a compiler, an emulator, a browser, a clean install): run by
             ``make test-targets``, which fails when a capability of the committed list was skipped or has no test.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run tests marked slow")
    parser.addoption("--require-capabilities", metavar="FILE", help="fail if a capability listed in FILE went untested")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes long; runs with --slow")
    config.addinivalue_line("markers", "target(capability): needs more than Python; runs in make test-targets")
    listed = config.getoption("--require-capabilities")
    if listed:
        config.pluginmanager.register(Capabilities(Path(listed)), "capabilities")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
        target = item.get_closest_marker("target")
        if target and not config.getoption("--require-capabilities"):
            item.add_marker(pytest.mark.skip(reason=f"target {target.args[0]}: run with make test-targets"))


class Capabilities:
    """Counts, for every listed capability, the tests that passed; a skipped or missing one fails the session."""

    def __init__(self, path: Path) -> None:
        lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
        self.required = [line for line in lines if line]
        self.capability: dict[str, str] = {}
        self.passed: dict[str, int] = dict.fromkeys(self.required, 0)
        self.skipped: dict[str, list[str]] = {name: [] for name in self.required}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            target = item.get_closest_marker("target")
            if target:
                self.capability[item.nodeid] = target.args[0]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = self.capability.get(report.nodeid)
        if name in self.passed:
            if report.skipped:
                self.skipped[name].append(report.nodeid)
            elif report.when == "call" and report.passed:
                self.passed[name] += 1

    def problems(self) -> list[str]:
        untested = [f"capability {n}: no test of it passed" for n in self.required if not self.passed[n]]
        return untested + [f"capability {n}: skipped {t}" for n in self.required for t in self.skipped[n]]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.problems():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for problem in self.problems():
            terminalreporter.write_line(f"REQUIRED {problem}", red=True)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets, from the environment variable ONEBIT_DATA; tests that need it skip without."""
    root = os.environ.get("ONEBIT_DATA")
    if not root:
        pytest.skip("ONEBIT_DATA names no folder of data sets")
    return Path(root)
