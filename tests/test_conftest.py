"""The gate behind ``make test-targets`` fails whenever a required capability went untested."""

from __future__ import annotations

from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")
PASSES = '@pytest.mark.target("wheel")\ndef test_a():\n    pass\n'


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Run pytest on a test file with this project's conftest; `required` lines make it a gated run."""
    monkeypatch.delenv("ONEBIT_DATA", raising=False)
    pytester.makeconftest(CONFTEST)

    def inner(source: str, *args: str, required: str | None = None) -> pytest.RunResult:
        pytester.makepyfile(test_it="import pytest\n\n" + source)
        if required is not None:
            pytester.makefile(".txt", capabilities=required)
            args = (*args, "-m", "target", "--require-capabilities", "capabilities.txt")
        return pytester.runpytest("-ra", "--strict-markers", *args)

    return inner


def test_target_tests_are_skipped_in_an_ordinary_run(run) -> None:
    result = run(PASSES)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*needs wheel: make test-targets runs it*"])
    assert result.ret == 0


def test_passes_when_every_required_capability_was_tested(run) -> None:
    result = run(PASSES + "def test_other():\n    pass\n", required="# what CI has\nwheel  # pip\n\n")
    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.fnmatch_lines(["all tested: wheel"])
    assert result.ret == 0


@pytest.mark.parametrize(
    "source",
    [
        '@pytest.mark.skip(reason="no pip")\n@pytest.mark.target("wheel")\ndef test_b():\n    pass\n',
        '@pytest.mark.target("wheel")\ndef test_b():\n    pytest.skip("no pip")\n',
        'pytestmark = pytest.mark.target("wheel")\n@pytest.fixture\ndef pip():\n    pytest.skip("no pip")\n'
        "def test_b(pip):\n    pass\n",
        'pytest.skip("no pip", allow_module_level=True)\npytestmark = pytest.mark.target("wheel")\n',
    ],
    ids=["mark", "call", "fixture", "module"],
)
def test_fails_when_a_required_test_was_skipped(run, pytester: pytest.Pytester, source: str) -> None:
    pytester.makepyfile(test_passing="import pytest\n\n" + PASSES)  # one test that passed does not make up for it
    result = run(source, required="wheel\n")
    result.stdout.fnmatch_lines(["MISSING wheel: skipped test_it.py*no pip*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_fails_when_a_required_test_fails(run) -> None:
    result = run('@pytest.mark.target("wheel")\ndef test_b():\n    assert False\n', required="wheel")
    result.stdout.fnmatch_lines(["MISSING wheel: none of its tests passed"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_fails_when_a_required_test_is_expected_to_fail(run) -> None:
    source = '@pytest.mark.xfail\n@pytest.mark.target("wheel")\ndef test_b():\n    raise ValueError\n'
    assert run(source, required="wheel").ret == pytest.ExitCode.TESTS_FAILED


def test_fails_when_a_required_capability_has_no_test(run) -> None:
    result = run(PASSES, required="wheel\nc-compiler\n")
    result.stdout.fnmatch_lines(["MISSING c-compiler: no test names this capability"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_fails_when_nothing_was_collected(run) -> None:
    assert run("def test_other():\n    pass\n", required="wheel").ret == pytest.ExitCode.TESTS_FAILED


def test_fails_when_the_tests_were_deselected(run) -> None:
    result = run(PASSES, "-k", "nothing_of_this_name", required="wheel")
    result.stdout.fnmatch_lines(["MISSING wheel: none of its tests passed"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_skipped_test_of_a_capability_that_is_not_required_is_no_failure(run) -> None:
    source = PASSES + '@pytest.mark.target("gpu")\ndef test_b():\n    pytest.skip("no gpu")\n'
    result = run(source, required="wheel")
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == 0


@pytest.mark.parametrize("content", ["", "# nothing yet\n"])
def test_an_empty_list_is_refused(run, content: str) -> None:
    assert run(PASSES, required=content).ret == pytest.ExitCode.USAGE_ERROR


def test_a_missing_list_is_refused(run) -> None:
    assert run(PASSES, "--require-capabilities", "absent.txt").ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize("mark", ["target", "target()", 'target("a", "b")', "target(3)"])
def test_a_mark_must_name_one_capability(run, mark: str) -> None:
    result = run(f"@pytest.mark.{mark}\ndef test_b():\n    pass\n", required="a")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_slow_and_data_tests_say_why_they_are_skipped(run) -> None:
    source = "@pytest.mark.slow\ndef test_b():\n    pass\n@pytest.mark.data\ndef test_c():\n    pass\n"
    result = run(source)
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["*slow: make test-slow runs it*", "*set ONEBIT_DATA*"])
    run(source, "--slow").assert_outcomes(passed=1, skipped=1)


def test_data_tests_run_with_the_folder(run, monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester) -> None:
    source = "@pytest.mark.data\ndef test_c(data_root):\n    assert data_root.is_dir()\n"
    monkeypatch.setenv("ONEBIT_DATA", str(pytester.path))
    run(source).assert_outcomes(passed=1)
    monkeypatch.setenv("ONEBIT_DATA", str(pytester.path / "absent"))
    assert run(source).ret == pytest.ExitCode.TESTS_FAILED  # a wrong folder is a mistake, no reason to skip
