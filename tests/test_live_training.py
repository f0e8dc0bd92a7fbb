"""The trainings that run in front of the reader reach their score whatever the seed: minutes, by `make test-training` alone."""

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
@pytest.mark.parametrize("name", TRAININGS)
def test_a_live_training_reaches_its_score_with_other_seeds_one_after_the_other(name):
    """In one kernel, as when a reader runs its cells again."""
    last, score, least = TRAININGS[name]
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    end = next(index for index, cell in enumerate(notebook.cells) if last in cell.source)
    sources = [cell.source for cell in notebook.cells[: end + 1] if cell.cell_type == "code"]
    assert any("manual_seed(0)" in source for source in sources), "the training has a fixed seed"
    again = [[source.replace("manual_seed(0)", f"manual_seed({seed})") for source in sources] for seed in (1, 2, 3)]
    notebook.cells = [nbformat.v4.new_code_cell(source) for cells in again for source in [*cells, f"print({score})"]]
    NotebookClient(notebook, resources={"metadata": {"path": str(NOTEBOOKS)}}, timeout=None).execute()
    scores = [float(cell.outputs[0].text) for cell in notebook.cells[len(sources) :: len(sources) + 1]]
    assert len(scores) == 3 and min(scores) >= least
