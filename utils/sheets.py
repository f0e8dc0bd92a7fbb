"""The run sheets in INSTRUCTORS.md, from the minutes that the notebooks state. -> python -m utils.sheets writes them there"""

import json
import re
from pathlib import Path

from utils.errors import LessonError
from utils.notebooks import LESSONS, read

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "INSTRUCTORS.md"
SECONDS = json.loads((ROOT / "utils" / "bench.json").read_text(encoding="utf-8"))["notebooks"]  # measured by `make bench`
STATED = re.compile(r"takes about (\d+) minutes, the exercises (\d+) more")
EXERCISE = re.compile(r"^### Exercise (\d): .+\n\n\*\w+, (\d+) minutes\.\*", re.MULTILINE)
MARKS = "<!-- run sheet: {} -->\n", "<!-- end -->"
WELCOME = ("welcome; `00_start_here` runs on each machine, and its exercise", 15)
BREAK, LUNCH, CLOSE = ("a break", 15), ("lunch, an hour", 60), ("minute cards, and where to go on", 10)

# A step is a text with its minutes, which are this file's own, or (notebook, part), whose minutes the notebook states:
# its reading, all its exercises, or one of them by its number. A notebook is named without its number, which may change.
SHEETS = {
    "90 minutes": (
        90,
        [
            ("welcome; `00_start_here` runs on each machine", 10),
            ("show 02 on the projector: cut by hand, and the position table", 10),
            ("one_head", "read"),
            ("one_head", 1),
            ("one_head", 2),
            ("show 11 on the projector: word by word, and the bet, settled", 15),
            CLOSE,
        ],
    ),
    "half a day": (
        210,
        [
            WELCOME,
            ("patches", "read"),
            ("patches", 1),
            ("patches", 2),
            ("one_head", "read"),
            ("one_head", 1),
            ("one_head", 2),
            BREAK,
            ("show 04 on the projector: heads differ, and the scene that can be clicked", 10),
            ("text", "read"),
            ("text", 1),
            ("text", 3),
            ("show 11 on the projector: word by word, and the bet, settled", 15),
            CLOSE,
        ],
    ),
    "one day": (
        420,
        [
            WELCOME,
            ("patches", "read"),
            ("patches", "exercises"),
            BREAK,
            ("one_head", "read"),
            ("one_head", "exercises"),
            ("many_heads", "read"),
            ("many_heads", 1),
            LUNCH,
            ("show 05 and 06 on the projector: one layer, and the whole tower's check", 20),
            ("text", "read"),
            ("text", "exercises"),
            BREAK,
            ("show 08 on the projector: a training that runs while you watch", 10),
            ("show 09 on the projector: the bet, settled", 10),
            ("vlm", "read"),
            ("vlm", 1),
            ("vlm", 2),
            CLOSE,
        ],
    ),
    "two days, the first": (420, None),  # what both days do stands in `two_days`
    "two days, the second": (420, None),
}


def notebook_of(name):
    """A notebook's name without its number -> its path"""
    found = [path for path in LESSONS if path.stem[3:] == name]
    if not found:
        raise LessonError(f"no notebook in notebooks/ is called {name}; correct the run sheet in utils/sheets.py")
    return found[0]


def minutes_of(path):
    """-> {"read": minutes, "exercises": minutes, 1: minutes of the first exercise, ...}, as the notebook states them"""
    prose = "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    reading, exercises = map(int, STATED.search(prose).groups())
    return {"read": reading, "exercises": exercises} | {int(number): int(time) for number, time in EXERCISE.findall(prose)}


def two_days():
    """Every notebook up to the VLM, with all exercises: as far as the whole tower on the first day. The others are for home.

    `pauses` are the lessons before which there is a break, lunch, and another break.
    """
    lessons = [path.stem[3:] for path in LESSONS]
    middle, end = lessons.index("whole_tower") + 1, lessons.index("vlm") + 1
    days = ((WELCOME, lessons[:middle], (2, 4, 5)), (("what we have so far", 10), lessons[middle:end], (1, 3, 4)))
    for first, names, pauses in days:
        steps = [first]
        for number, name in enumerate(names):
            if number in pauses:
                steps.append(LUNCH if number == pauses[1] else BREAK)
            steps += [(name, "read"), (name, "exercises")]
        yield [*steps, CLOSE]


def steps_of(title):
    """A sheet's title -> [(what, minutes, seconds that it runs or None)], of which the last takes what is left over"""
    total, steps = SHEETS[title]
    if steps is None:
        steps = list(two_days())[title.endswith("second")]
    done = [step_of(*step) for step in steps]
    left = total - sum(minutes for _, minutes, _ in done)
    if left < 0:
        raise LessonError(f"the run sheet for {title} is {-left} minutes too long; take a step out of it in utils/sheets.py")
    return [*done, ("in reserve", left, None)]


def step_of(what, minutes):
    """One step of a sheet -> (what, minutes, seconds that it runs or None)"""
    if " " in what:  # a text, not a name
        return what, minutes, None
    path, part = notebook_of(what), minutes
    link = f"[{path.stem}](notebooks/{path.name})"
    says = {"read": f"{link}: read and run", "exercises": f"{link}: its exercises"}.get(part, f"{link}: exercise {part}")
    seconds = {name[3:]: seconds for name, seconds in SECONDS.items()}.get(what)
    return says, minutes_of(path)[part], seconds if part == "read" else None


def sheet(title):
    """-> one run sheet as a table in Markdown"""
    lines, clock = ["| at | minutes | what | seconds of running |", "|---|---|---|---|"], 0
    for what, minutes, seconds in steps_of(title):
        lines.append(f"| {clock // 60}:{clock % 60:02} | {minutes} | {what} | {seconds or ''} |")
        clock += minutes
    return "\n".join([*lines, f"| {clock // 60}:{clock % 60:02} | | the end | |"]) + "\n"


def filled(text):
    """The guide's text -> the same, with each run sheet between its marks made anew"""
    for title in SHEETS:
        start, end = MARKS[0].format(title), MARKS[1]
        if text.count(start) != 1:
            raise LessonError(f"{GUIDE.name} has no place for the run sheet of {title}; write {start.strip()} and {end} there")
        before, after = text.split(start)
        text = before + start + sheet(title) + end + after.split(end, 1)[1]
    return text


def main():
    try:
        text = filled(GUIDE.read_text(encoding="utf-8"))
    except LessonError as error:
        raise SystemExit(f"sheets: {error}") from None
    GUIDE.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
