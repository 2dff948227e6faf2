"""How the documentation is built: `make docs`. Needs no network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

import interp

project = "interp"
author = "the interp authors"
version = release = interp.__version__
html_title = f"interp {release}"

extensions = [
    "sphinx.ext.autodoc",
    "myst_parser",
    "from_code",
    "mathml",
    "plain_docstrings",
]
exclude_patterns = ["_build", "_extensions", "example_probe"]
nitpicky = False
smartquotes = False  # "--flag" must stay "--flag"

highlight_language = "none"

html_theme = "furo"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["interp.css"]
html_show_sphinx = False
html_copy_source = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
myst_update_mathjax = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
default_role = "code"  # docstrings set names between single backticks
