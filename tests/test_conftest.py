"""The list of required capabilities does what CI relies on: a skipped or missing one fails the run."""

from __future__ import annotations

from pathlib import Path

import pytest

CONFTEST = (Path(__file__).parent / "conftest.py").read_text()


@pytest.mark.parametrize(
    ("body", "listed", "code"),
    [
        ("pass", "gate", 0),
        ("pytest.skip('no compiler')", "gate", 1),
        ("pass", "gate\nother", 1),
        ("assert False", "gate", 1),
    ],
)
def test_required_capabilities(pytester: pytest.Pytester, body: str, listed: str, code: int) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(f"import pytest\n@pytest.mark.target('gate')\ndef test_it():\n    {body}\n")
    pytester.makefile(".txt", required=listed)
    result = pytester.runpytest("-m", "target", "--require-capabilities", "required.txt")
    assert result.ret == code


def test_target_tests_do_not_run_by_default(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile("import pytest\n@pytest.mark.target('gate')\ndef test_it():\n    assert False\n")
    assert pytester.runpytest().ret == 0
