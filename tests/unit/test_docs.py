"""The examples of the documentation run, one block after the other, as a reader would run them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.slow
def test_the_examples_of_the_training_loop_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = DOCS / "training-loop.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)  # for the files that they write
    names: dict[str, object] = {"__name__": "example"}
    for block in blocks:
        exec(compile(block, str(page), "exec"), names)
    said = capsys.readouterr().out
    assert said.count("line of a step, status") >= 2
    assert "minimum_position" in said
    assert "nan" not in said


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    notebook = DOCS / "training-loop.ipynb"
    cells = [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    names: dict[str, object] = {"__name__": "example"}
    for cell in cells:
        assert cell["outputs"] or "print" not in "".join(cell["source"])  # it was run before it was kept
        code = "".join(line for line in cell["source"] if not line.startswith("%"))
        # A sixth of the updates tells how the text goes on.
        exec(
            compile(code.replace("updates=60", "updates=11").replace("log[6]", "log[1]"), str(notebook), "exec"), names
        )
    overshoots = dict(re.findall(r"learning rate ([\d.]+): median overshoot ([\d.]+|none)", capsys.readouterr().out))
    assert list(overshoots) == ["0.0003", "0.003", "0.03"]
    assert float(overshoots["0.03"]) > float(overshoots["0.003"])
