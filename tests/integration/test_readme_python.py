"""The README's Python example, run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

README = Path(__file__).parents[2] / "README.md"


def test_python_example(tmp_path, monkeypatch, capsys, ray_cluster):
    """From a simulated extract to scores over HTTP, in the lines that the README shows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATTRITION_HOME", str(tmp_path / "home"))
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(example, str(README), "exec"), {})
    printed = capsys.readouterr().out
    assert "auc" in printed.lower()
    assert "PASS" in printed
    assert "probability" in printed
