"""The documentation site: `make docs` builds it from the pages of this folder, without a network."""

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

import results
import sweeps
import tailor
import tailor.extend

project = "TransTailor sweeps"
html_title = project
html_theme = "furo"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # tables of results begin at the third level, as `transtailor table` prints them
autodoc_default_options = {"members": True, "undoc-members": True, "exclude-members": "model_config"}
autodoc_typehints_format = "short"
napoleon_use_ivar = True  # an attribute that is a property is described once
default_role = "code"  # docstrings have `names` in single backticks
html_copy_source = False
html_show_copyright = False
smartquotes = False  # quotes in commands stay as they are typed

# Modules import some names only when they are used; autodoc documents those that are there.
for module in (results, sweeps, tailor, tailor.extend):
    vars(module).update({name: getattr(module, name) for name in getattr(module, "__all__", ())})


def setup(app: Sphinx) -> None:
    """Show drawings in Mermaid as their text: GitHub draws them, and the site loads no script from elsewhere."""
    app.add_lexer("mermaid", TextLexer)
