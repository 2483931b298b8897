from __future__ import annotations

import pytest

from support import ccore
from support.cloader import Loader


@pytest.fixture(scope="session")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Loader:
    """The loader of the C core, compiled once for all tests."""
    if not ccore.compiler():
        pytest.skip("needs a C compiler: none of $CC, cc, gcc, clang is here")
    return Loader(ccore.build(ccore.LOADER, [*ccore.WARNINGS, "-O1"], tmp_path_factory.mktemp("core") / "loader.so"))
