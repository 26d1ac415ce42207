from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
@pytest.mark.filterwarnings("ignore")  # of the kernel's own plumbing, not of ours
def test_notebooks_run_from_top_to_bottom_and_leave_no_file(path):
    before = set(path.parent.iterdir())
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    assert set(path.parent.iterdir()) == before
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
