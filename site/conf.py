"""The series as static pages, by `make site`: Sphinx with myst-nb, from the notebooks as they are stored; nothing is run."""

import shutil
from pathlib import Path

from bs4 import BeautifulSoup

project = "SigLIP by hand"
extensions = ["myst_nb"]
root_doc = "README"
PLACES = ["notebooks/*.ipynb", "TROUBLESHOOTING.md", "INSTRUCTORS.md", "models/*/README.md", "pictures/README.md"]
include_patterns = ["README.md", *PLACES]
nb_execution_mode = "off"
nb_render_markdown_format = "myst"  # the default knows no tables
smartquotes = False  # an alt text stays as it is
myst_heading_anchors = 3
nb_code_prompt_show = "Show the code that finds the series"  # the only folded cells
html_theme = "pydata_sphinx_theme"
html_title = project
html_copy_source = html_show_sourcelink = html_show_sphinx = html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["site.css"]
html_theme_options = {"header_links_before_dropdown": 0, "header_dropdown_text": "All pages", "footer_end": []}
html_theme_options |= {"show_prev_next": False, "pygments_dark_style": "github-dark"}  # notebooks link on by themselves
html_context = {"default_mode": "auto"}
html_sidebars = {"**": []}  # the text needs the width
ROOT = Path(__file__).parents[1]
PAGES = [path.relative_to(ROOT) for place in PLACES for path in sorted(ROOT.glob(place))]
LESSONS = [path for path in PAGES if path.suffix == ".ipynb" and not path.stem.startswith("00")]
html_js_files = [("site.js", {"data-lessons": str(len(LESSONS))})]


def add_contents(app, page, source):
    """The README is the first page, and the menu lists all others."""
    if page == root_doc:
        source[0] += "\n\n```{toctree}\n:hidden:\n\n" + "\n".join(page.as_posix() for page in PAGES) + "\n```\n"


def name_pictures(app, page, template, context, doctree):
    """A picture's alt text is the sentence under it; a screen reader says it once."""
    if not context.get("body"):
        return
    body = BeautifulSoup(context["body"], "html.parser")
    for picture in body.select(".cell_output img"):
        sentence = picture.find_next("em")
        picture["alt"] = sentence.get_text()
        sentence.parent["aria-hidden"] = "true"
    context["body"] = str(body)


def add_index(app, error):
    if not error:
        shutil.copy(Path(app.outdir) / f"{root_doc}.html", Path(app.outdir) / "index.html")


def setup(app):
    app.connect("source-read", add_contents)
    app.connect("html-page-context", name_pictures)
    app.connect("build-finished", add_index)
