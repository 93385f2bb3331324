"""How the documentation is built; `bash .ci/run` calls it with warnings as errors."""

import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "extensions"))
# cells that start with %%bash find the `cytoclust` of the environment that builds the pages
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ.setdefault("COLUMNS", "100")

from reference import measured  # noqa: E402, after its folder is on the path

project = "cytoclust"
author = "The cytoclust developers"
copyright = author  # the name Sphinx asks for
version = release = installed_version("cytoclust")

extensions = [
    "myst_nb",
    "numpydoc",
    "reference",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "jupyter_execute", "**.ipynb_checkpoints"]
templates_path = ["_templates"]
nitpicky = False
smartquotes = False  # options are written with two hyphens
suppress_warnings = ["mystnb.unknown_mime_type"]  # tables of rich have a text form that is shown

# every code cell runs, and an error in one fails the build
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 180
nb_execution_excludepatterns = ["generated/*", "api/generated/*"]
nb_output_stderr = "remove"  # progress; warnings that matter are explained in the text
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "substitution"]
myst_substitutions = measured()
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "furo"
html_title = f"cytoclust {release}"
html_static_path = ["_static"]
html_css_files = ["wide_tables.css"]
