"""An assertion that fails shows its values, also in the modules beside the files of tests."""

from pathlib import Path

import pytest

FOLDERS = {f"tests.{file.parent.name}" for file in Path(__file__).parent.glob("*/*.py")}
pytest.register_assert_rewrite("tests.servers", *FOLDERS)
