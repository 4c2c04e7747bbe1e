"""Results as one self-contained HTML page, and the same content as Markdown."""
