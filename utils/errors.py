"""One kind of error for everything that a reader can put right."""


class LessonError(Exception):
    """Its message is one line: what is wrong, and the way out. A notebook shows that line and no stack trace."""

    def _render_traceback_(self):
        return [f"{type(self).__name__}: {self}"]
