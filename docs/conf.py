"""Settings of the site. ``make docs`` builds it, without a network."""

import os
import re
from importlib.metadata import version as installed_version
from typing import Any

from jupyter_cache import get_cache

# Classic control and the crane draw without a screen, in the notebooks too
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("OMP_NUM_THREADS", "1")

project = "sb3-pgfd"
author = "The sb3-pgfd contributors"
copyright = author
version = release = installed_version("sb3-pgfd")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton", "sphinx_design"]
exclude_patterns = ["_build"]
templates_path: list[str] = []

html_theme = "furo"
html_title = f"sb3-pgfd {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_enable_extensions = ["colon_fence"]
# Links to headings of other pages, as on GitHub
myst_heading_anchors = 4
copybutton_exclude = ".linenos, .gp, .go"

# The notebooks are run when the site is built, each in a process of its own. A result is kept until its notebook changes
nb_execution_mode = "cache"
nb_execution_cache_path = os.path.join(os.path.dirname(__file__), "..", "build", "notebooks")
nb_execution_timeout = 1800
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "separated"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
add_module_names = False


def escape_bars(_app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Absolute values in docstrings, as in |Q|, are no substitutions of reStructuredText."""
    lines[:] = [re.sub(r"(``.*?``)|\|", lambda match: match[1] or r"\|", line) for line in lines]


def make_notebook_cache(_app: Any) -> None:
    """Create the database of notebooks before Sphinx forks: two readers that create it at once fail."""
    # Closed again: a connection of SQLite must not be carried across a fork
    get_cache(nb_execution_cache_path).db.dispose()


def setup(app: Any) -> None:
    """:param app: Sphinx"""
    app.connect("builder-inited", make_notebook_cache)
    app.connect("autodoc-process-docstring", escape_bars)
