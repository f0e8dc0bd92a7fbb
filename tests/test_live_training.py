"""The trainings that run in front of the reader: on an accelerator if there is one; their score whatever the seed.

The scores take minutes: by `make test-training` alone.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
# notebook: (the cell that ends the training, how to read the score, the least it must be)
TRAININGS = {
    "08_learning": ("the model has not learned", "score(model)", 8),
    "11_vlm": ("after, own = speech.share_right", "after", 0.08),
    "13_own_pictures": ('print("LoRA:"', "named_right(scores)", 40),
}


def cells_of_training(name):
    """A notebook's code cells, to the one that ends its training. -> the notebook, sources"""
    last, _, _ = TRAININGS[name]
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    (end,) = [index for index, source in enumerate(sources) if last in source]
    return notebook, sources[: end + 1]


@pytest.mark.parametrize("name", TRAININGS)
def test_a_live_training_has_an_end_and_a_fixed_seed(name):
    _, sources = cells_of_training(name)
    assert any("manual_seed(0)" in source for source in sources)


@pytest.mark.training
@pytest.mark.parametrize("name", TRAININGS)
def test_a_live_training_reaches_its_score_with_other_seeds_one_after_the_other(name):
    """In one kernel, as when a reader runs its cells again."""
    _, score, least = TRAININGS[name]
    notebook, sources = cells_of_training(name)
    again = [[source.replace("manual_seed(0)", f"manual_seed({seed})") for source in sources] for seed in (1, 2, 3)]
    notebook.cells = [nbformat.v4.new_code_cell(source) for cells in again for source in [*cells, f"print({score})"]]
    NotebookClient(notebook, resources={"metadata": {"path": str(NOTEBOOKS)}}, timeout=None).execute()
    scores = [float(cell.outputs[0].text) for cell in notebook.cells[len(sources) :: len(sources) + 1]]
    assert len(scores) == 3 and min(scores) >= least


@pytest.fixture
def accelerator(monkeypatch):
    """The meta device in the place of a GPU: it computes nothing, and what lies on the wrong device raises an error."""
    meta = torch.device("meta")

    def on_the_way_back(method, made_up):
        known = getattr(torch.Tensor, method)
        monkeypatch.setattr(torch.Tensor, method, lambda x: made_up(x) if x.is_meta else known(x))

    on_the_way_back("cpu", lambda x: torch.zeros(x.shape, dtype=x.dtype))
    on_the_way_back("item", lambda x: 0.0)
    on_the_way_back("__bool__", lambda x: True)
    monkeypatch.setattr("utils.measure.training_device", lambda: meta)
    monkeypatch.setattr("utils.plots.show", lambda figure, *_, **__: plt.close(figure))
    monkeypatch.chdir(NOTEBOOKS)
    return meta


def run_until(name, last):
    """Run a notebook's cells before the one that holds `last`. -> (what they define, the sources of the others)"""
    sources = [
        cell.source for cell in nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells if cell.cell_type == "code"
    ]
    end, names = next(index for index, source in enumerate(sources) if last in source), {}
    for source in sources[:end]:
        exec(source, names)
    return names, sources[end:]


@pytest.mark.slow
def test_notebook_08_trains_on_the_accelerator(accelerator):
    names, _ = run_until("08_learning", "STEPS = ")
    model = names["fresh_model"]()
    names["train"](model, 2, every=1)
    assert {parameter.grad.device for parameter in model.parameters()} == {accelerator}


@pytest.mark.slow
def test_notebook_11_trains_on_the_accelerator_and_brings_the_model_back(accelerator):
    names, (training, after, *_) = run_until("11_vlm", "for step in range(STEPS)")
    exec(training.replace("range(STEPS)", "range(2)"), names)
    assert names["learner"].projector.weight.grad.device == accelerator
    assert after.startswith('learner.to("cpu")')
