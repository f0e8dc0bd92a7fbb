"""The trainings that run in front of the reader reach their score whatever the seed: minutes, by `make test-training` alone."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
# notebook: (the cell that ends the training, how to read the score, the least it must be)
TRAININGS = {
    "08_learning": ("the model has not learned", "score(model)", 8),
    "11_vlm": ("after = share_right", "after", 0.2),
    "13_own_pictures": ('right["LoRA"] =', 'right["LoRA"]', 40),
}


@pytest.mark.training
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", TRAININGS)
def test_a_live_training_reaches_its_score_with_another_seed(name, seed):
    last, score, least = TRAININGS[name]
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    end = next(index for index, cell in enumerate(notebook.cells) if last in cell.source)
    notebook.cells = [cell for cell in notebook.cells[: end + 1] if cell.cell_type == "code"]
    seeds = 0
    for cell in notebook.cells:
        cell.source, changed = re.subn(r"manual_seed\(0\)", f"manual_seed({seed})", cell.source)
        seeds += changed
    assert seeds, "the training has a fixed seed"
    notebook.cells.append(nbformat.v4.new_code_cell(f"print({score})"))
    NotebookClient(notebook, resources={"metadata": {"path": str(NOTEBOOKS)}}, timeout=None).execute()
    assert float(notebook.cells[-1].outputs[0].text) >= least
