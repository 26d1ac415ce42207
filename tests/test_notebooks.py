from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def test_there_is_one_for_the_classifier_and_one_for_its_blocks():
    assert [path.stem for path in NOTEBOOKS] == ["building_blocks", "quickstart"]


QUICK = "quickstart"
SLOW = {path: () if path.stem == QUICK else pytest.mark.slow for path in NOTEBOOKS}


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=mark, id=path.stem) for path, mark in SLOW.items()]
)
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
