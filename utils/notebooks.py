"""Run every notebook and store it in one normal form: `make notebooks`. Run twice, nothing changes."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
LESSONS = PATHS[1:]  # all but 00, which builds nothing


def read(path):
    return nbformat.read(path, as_version=4)


def execute(notebook):
    """Run a notebook from a fresh kernel to its last cell. -> the same notebook, with its new outputs"""
    options = {"timeout": None, "record_timing": False, "coalesce_streams": True}
    options["extra_arguments"] = ["--log-level=ERROR"]  # without the kernel's warning that it listens on this machine
    NotebookClient(notebook, resources={"metadata": {"path": FOLDER}}, **options).execute()
    return notebook


def normalise(notebook):
    """Drop from an executed notebook, in place, all that tells of the machine or the moment it ran on."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        # As the kernel of `make lab` tells it (utils/start.py): else JupyterLab takes an opened notebook for a changed one.
        "language_info": {name: value for name, value in notebook.metadata.language_info.items() if name != "version"},
    }
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)


def outputs_that_vary(notebook):
    """{cell id: its stored outputs} of the cells that are not compared (timings, memory) and have been run."""
    varying = [cell for cell in notebook.cells if "nbval-ignore-output" in cell.metadata.get("tags", [])]
    return {cell.id: cell.outputs for cell in varying if cell.outputs}


def main():
    for path in PATHS:
        notebook = read(path)
        kept = outputs_that_vary(notebook)
        execute(notebook)
        normalise(notebook)
        for cell in notebook.cells:
            if cell.id in kept:
                cell.outputs = kept[cell.id]
        nbformat.write(notebook, path)
        print(path.name)


if __name__ == "__main__":
    main()
