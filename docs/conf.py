"""Settings of the documentation site.

uv run --group docs sphinx-build -W docs build/site
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# Small tensors: a notebook with one thread is faster, and leaves the other cores alone.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import metaplast

project = "metaplast"
author = "the metaplast authors"
version = release = metaplast.__version__
html_title = "metaplast"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "site_parts.mathml",
    "site_parts.indices",
    "site_parts.pages",
    "site_parts.api",
    "site_parts.gallery",
]
exclude_patterns = ["_build", "images/*", "site_parts"]
templates_path = ["site_parts/templates"]

# Markdown
myst_enable_extensions = ["colon_fence", "dollarmath", "attrs_block", "attrs_inline"]
myst_heading_anchors = 3

# Notebooks run at every build, so that their output is never stale.
nb_execution_mode = "force"
nb_execution_timeout = 600
# Progress bars, and that the fused engine is compiled when it is first used.
nb_output_stderr = "remove"
nb_execution_raise_on_error = True

# Reference
default_role = "py:obj"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
add_module_names = False
napoleon_use_ivar = True
napoleon_use_rtype = False

# Appearance; nothing comes from another host.
html_theme = "furo"
html_math_renderer = "mathml"
html_static_path = ["site_parts/static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
pygments_style = "tango"
pygments_dark_style = "monokai"
