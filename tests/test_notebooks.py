import tempfile
from pathlib import Path

import matplotlib.pyplot
import nbformat
import pytest
from matplotlib.figure import Figure
from nbclient import NotebookClient

import xlstm_classifier

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def test_there_is_one_for_the_classifier_and_one_for_its_blocks():
    assert [path.stem for path in NOTEBOOKS] == ["building_blocks", "quickstart"]


def test_the_lines_of_the_quickstart_run_with_a_small_network(monkeypatch, tmp_path):
    """A kernel and the network of the notebook take three times as long: that is the slow test."""

    class Small(xlstm_classifier.XLSTMClassifier):
        def __init__(self, **flags):
            super().__init__(**flags | {"XLSTM_BLOCKS": "m", "SUPERVISED_EPOCHS": 1})

    monkeypatch.setattr(xlstm_classifier, "XLSTMClassifier", Small)
    monkeypatch.setattr(tempfile, "mkdtemp", lambda: str(tmp_path))
    monkeypatch.setattr(matplotlib.pyplot, "subplots", lambda **size: (None, Figure().subplots()))
    names = {}
    for cell in nbformat.read(NOTEBOOKS[1], as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, "quickstart", "exec"), names)
    assert len(names["new"]) and (tmp_path / "model" / "model.keras").exists()


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
@pytest.mark.filterwarnings("ignore")  # of the kernel's own plumbing, not of ours
def test_notebooks_run_from_top_to_bottom_quietly_and_leave_no_file(path):
    before = set(path.parent.iterdir())
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") or "sys.path" in cell.source for cell in notebook.cells)
    client = NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    assert set(path.parent.iterdir()) == before
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in codes) and len(notebook.cells) <= 12
    # Whatever is not the value of a cell is noise.
    noise = [out for cell in codes for out in cell.outputs if out.output_type == "stream"]
    assert not noise, noise
