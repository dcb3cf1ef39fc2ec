"""The documentation site: `make docs` builds it from the pages of this folder, without a network."""

project = "TransTailor sweeps"
html_title = project
html_theme = "furo"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # tables of results begin at the third level, as `transtailor table` prints them
default_role = "code"  # docstrings have `names` in single backticks
html_copy_source = False
html_show_copyright = False
smartquotes = False  # quotes in commands stay as they are typed
