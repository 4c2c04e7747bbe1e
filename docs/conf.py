"""What Sphinx builds the pages with; ``make docs`` lays them out first (``tests/tools/docs_site.py``)."""

project = "bagel-perf"
html_title = "bagel-perf"
extensions = ["myst_parser"]
myst_heading_anchors = 4
html_theme = "furo"
html_copy_source = False
html_show_sphinx = False
highlight_language = "none"
