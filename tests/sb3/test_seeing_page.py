"""The page and the notebook about seeing: what they show works."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "seeing.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.S)


@pytest.mark.parametrize("number", range(2))
def test_scripts_of_the_page_leave_their_pictures(number: int, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SNIPPETS[number]], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("*/visits.png"))
    assert list(tmp_path.glob("logs/*/events.*"))


def test_axes_of_the_page_can_be_set() -> None:
    from farl.experiment.config import LoggingConfig
    from farl.experiment.yaml_source import parse_value

    (snippet,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    assert LoggingConfig(**parse_value(snippet)["logging"]).axes == ["position", "velocity"]


def test_page_tells_of_every_picture_and_shows_no_missing_one() -> None:
    from farl.experiment.report.page import TITLES

    for name in set(TITLES) - {"task_matrix"}:
        assert f"| `{name}` |" in PAGE
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", PAGE):
        assert (DOCS / picture).is_file(), picture


def test_attributes_of_a_run_that_the_page_names_exist() -> None:
    from farl.experiment.finished import Run

    for name in re.findall(r"\brun\.(\w+)", SNIPPETS[2]):
        assert hasattr(Run, name), name


def test_notebook_runs_from_its_first_cell_to_its_last() -> None:
    nbclient = pytest.importorskip("nbclient", reason="needs the packages nbclient and ipykernel of the extra dev")
    import nbformat

    notebook = nbformat.read(DOCS / "seeing.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)
