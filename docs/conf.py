"""Configuration of the documentation: `sphinx-build -W docs site`."""

import inspect
import logging

import keras_gen

logging.getLogger("absl").setLevel("WARNING")  # TFDS logs every file that it reads
project = "keras_gen"
author = "the keras_gen developers"
release = keras_gen.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
html_theme = "furo"
html_title = f"keras_gen {release}"
html_show_copyright = False
templates_path = ["_templates"]
exclude_patterns = ["tutorials/*.rst"]  # the gallery writes its own pages
default_role = "code"  # docstrings write `code` in single backticks

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the section `Args:` describes the types
napoleon_use_rtype = False

sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_memory": False,
    "capture_repr": (),
    "min_reported_time": 1,
    "abort_on_example_error": True,
}


def setup(app):
    """Show the constructors of models and layers, which Keras hides behind its own signature."""

    def constructor(app, what, name, obj, options, signature, returned):
        if what != "class" or not hasattr(obj, "get_config"):
            return None
        _, *parameters = inspect.signature(obj.__init__).parameters.values()
        untyped = [parameter.replace(annotation=parameter.empty) for parameter in parameters]
        return str(inspect.Signature(untyped)), returned

    app.connect("autodoc-process-signature", constructor)
