"""Which tests run where: the markers slow, data and target, and the gate behind ``make test-targets``.

Nothing is left out silently: a test that cannot run here is skipped with its reason, and
``--require-capabilities FILE`` turns such a skip into a failure for every capability that FILE lists.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("MPLBACKEND", "Agg")  # no display needed, also in the processes that tests start
# Tests compute with small tensors: threads only wait for each other, ten times longer when something else runs too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No deadline: on a busy machine it fails tests for being slow, which is not what they test.
settings.register_profile("onebit", deadline=None)
settings.load_profile("onebit")

GATE = pytest.StashKey["CapabilityGate"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("onebit")
    group.addoption("--slow", action="store_true", help="also run the tests marked slow")
    group.addoption(
        "--require-capabilities",
        metavar="FILE",
        help="run the tests marked target, and fail if one of a capability listed in FILE did not run",
    )


def pytest_configure(config: pytest.Config) -> None:
    for marker in (
        "slow: takes minutes; runs with --slow",
        "data: needs published data sets in the folder named by ONEBIT_DATA",
        "target(capability): needs more than Python packages (a compiler, an emulator, ...); run by make test-targets",
    ):
        config.addinivalue_line("markers", marker)
    if file := config.getoption("--require-capabilities"):
        config.stash[GATE] = CapabilityGate(read_capabilities(Path(file)))
        config.pluginmanager.register(config.stash[GATE], "onebit-capabilities")


@pytest.hookimpl(tryfirst=True)  # before -m and -k take tests away, so that a malformed mark is never overlooked
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    root = os.environ.get("ONEBIT_DATA")
    for item in items:
        names = capabilities_of(item)
        if names and GATE not in config.stash:
            item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(names)}: make test-targets runs it"))
        if item.get_closest_marker("slow") and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: make test-slow runs it"))
        if item.get_closest_marker("data") and not root:
            item.add_marker(pytest.mark.skip(reason="needs real data: set ONEBIT_DATA to the folder that holds it"))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the published data sets; without one the test is skipped."""
    root = os.environ.get("ONEBIT_DATA")
    if not root:
        pytest.skip("needs real data: set ONEBIT_DATA to the folder that holds it")
    if not Path(root).is_dir():
        pytest.fail(f"ONEBIT_DATA={root}: no such folder")
    return Path(root)


def read_capabilities(file: Path) -> list[str]:
    """The names in a capabilities file: one a line, ``#`` starts a comment."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise pytest.UsageError(f"--require-capabilities {file}: {error.strerror}") from None
    names = [name for line in lines if (name := line.partition("#")[0].strip())]
    if not names:
        raise pytest.UsageError(f"--require-capabilities {file}: lists no capability")
    return names


def capabilities_of(item: pytest.Item) -> list[str]:
    """The capabilities that a test's target marks (its own, its class's, its module's) name."""
    names: list[str] = []
    for mark in item.iter_markers("target"):
        if len(mark.args) != 1 or not isinstance(mark.args[0], str) or mark.kwargs:
            raise pytest.UsageError(f'{item.nodeid}: write @pytest.mark.target("capability"), one name a mark')
        names.append(mark.args[0])
    return names


class CapabilityGate:
    """Fails the run unless every required capability has a test that passed and none that was skipped."""

    def __init__(self, required: list[str]) -> None:
        self.required = required
        self.passed: set[str] = set()
        self.known: set[str] = set()
        self.skipped: dict[str, list[str]] = {}  # capability -> "test: reason"

    def problems(self) -> list[str]:
        found = []
        for name in self.required:
            if skips := self.skipped.get(name):
                found += [f"{name}: skipped {skip}" for skip in skips]
            elif name not in self.known:
                found.append(f"{name}: no test names this capability")
            elif name not in self.passed:
                found.append(f"{name}: none of its tests passed")
        return found

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            self.known.update(capabilities_of(item))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        # A module skipped as a whole (importorskip at its top) never yields its tests: look for its marks in the text.
        if not report.skipped:
            return
        path = report.nodeid.partition("::")[0]
        source = Path(str(report.fspath) if Path(str(report.fspath)).is_file() else path)
        text = source.read_text(encoding="utf-8") if source.is_file() else ""
        for name in re.findall(r"""mark\.target\(\s*["']([^"']+)["']""", text):
            self._skip(name, report.nodeid, report.longrepr)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        for name in capabilities_of(item):
            if report.skipped:  # an expected failure too: it shows nothing about the capability
                self._skip(name, report.nodeid, report.longrepr)
            elif report.when == "call" and report.passed:
                self.passed.add(name)
        return report

    def _skip(self, name: str, test: str, longrepr: object) -> None:
        reason = longrepr[2] if isinstance(longrepr, tuple) else "expected to fail"
        self.skipped.setdefault(name, []).append(f"{test}: {reason}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        nothing_wrong = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        if self.problems() and nothing_wrong and not session.config.option.collectonly:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("required capabilities")
        problems = self.problems()
        for line in problems:
            terminalreporter.write_line(f"MISSING {line}", red=True)
        if not problems:
            terminalreporter.write_line(f"all tested: {', '.join(self.required)}")
