"""Commands as a person types them, in this process."""

from __future__ import annotations

import pytest

from onebit.cli import main


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of ``onebit ARGUMENTS``."""
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in arguments])
    printed = capsys.readouterr()
    return int(done.value.code or 0), printed.out, printed.err
