"""How far the exercises of saved notebooks are. -> python -m utils.progress [FOLDER ...]: one for each learner"""

import re
import sys
from collections import Counter
from pathlib import Path

from utils.errors import LessonError
from utils.notebooks import FOLDER, read

# What `checks.check_exercise` prints: the exercise, how it stands, and what is wrong.
VERDICT = re.compile(r"^(.+): (not attempted yet|Not yet|Right)\b\.? ?(.*)$", re.MULTILINE)
# From best to worst.
MARKS = {"Right": "+", "Not yet": "-", "not attempted yet": ".", None: " "}
# Numbers differ from learner to learner; the mistake is the same.
NUMBERS = re.compile(r"-?\d[\d.,e+-]*|\(largest difference [^)]*\)")


def standing(folder):
    """-> {(notebook, exercise): (how it stands, what is wrong)}, from the outputs with which a folder's notebooks were saved

    `make mine` may have put 03_one_head.new.ipynb beside 03_one_head.ipynb: an exercise solved in either is solved.
    """
    found = {}
    for path in sorted(Path(folder).rglob("[0-9][0-9]_*.ipynb")):
        if ".ipynb_checkpoints" in path.parts:
            continue
        for cell in saved(path).cells:
            if "check" in cell.metadata.get("tags", []):
                text = "".join(output.get("text", "") for output in cell.outputs)
                for name, *now in VERDICT.findall(text):
                    exercise = path.stem.split(".")[0], name
                    found[exercise] = min(found.get(exercise, now), now, key=lambda verdict: list(MARKS).index(verdict[0]))
    if not found:
        raise LessonError(f"no saved exercise in {folder}; name a folder that holds the notebooks, run and saved")
    return found


def saved(path):
    try:
        return read(path)
    except Exception:  # nbformat raises many kinds; what a learner's file holds is not ours to know
        raise LessonError(f"{path} is no notebook that can be read; save it again in JupyterLab") from None


def of_one(found):
    """One learner: each notebook, its exercises, and how they stand. -> lines"""
    for notebook in dict.fromkeys(notebook for notebook, _ in found):
        own = {name: how for (stem, name), (how, _) in found.items() if stem == notebook}
        solved = sum(how == "Right" for how in own.values())
        yield f"{notebook:36} {solved} of {len(own)}   " + ", ".join(f"{name}: {how.lower()}" for name, how in own.items())
    solved = sum(how == "Right" for how, _ in found.values())
    yield f"{'all':36} {solved} of {len(found)}"


def of_many(learners):
    """A class: learners x exercises, then what went wrong, most frequent first. -> lines"""
    exercises = list(dict.fromkeys(exercise for found in learners.values() for exercise in found))
    notebooks = [f"{notebook[:2]}" for notebook, _ in exercises]
    width = max(map(len, learners))
    yield f"{'':{width}} " + " ".join(notebooks) + "   + right  - not yet  . not attempted"
    for learner, found in learners.items():
        marks = [MARKS[found.get(exercise, (None,))[0]] for exercise in exercises]
        yield f"{learner:{width}} " + " ".join(f"{mark:>2}" for mark in marks) + f"   {marks.count('+')} of {len(exercises)}"
    wrong = Counter(
        (notebook[:2], name, NUMBERS.sub("…", why).strip())
        for found in learners.values()
        for (notebook, name), (how, why) in found.items()
        if how == "Not yet"
    )
    for (notebook, name, why), number in sorted(wrong.items(), key=lambda item: (-item[1], item[0])):
        yield f"{number:3} x  {notebook} {name}: {why}"


def main():
    try:
        folders = [Path(name) for name in sys.argv[1:]] or [FOLDER]
        found = {folder.resolve().name: standing(folder) for folder in folders}
    except LessonError as error:
        raise SystemExit(f"progress: {error}") from None
    print(*(of_one(*found.values()) if len(found) == 1 else of_many(found)), sep="\n")


if __name__ == "__main__":
    main()
