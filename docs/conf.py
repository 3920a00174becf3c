"""Sphinx: builds offline, and every warning is an error (make docs)."""

from importlib.metadata import version as installed_version

project = "libironic_disk"
copyright = "The libironic_disk authors, Apache License 2.0"
version = release = installed_version("libironic-disk")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"{project} {release}"

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
maximum_signature_line_length = 100
napoleon_numpy_docstring = False
