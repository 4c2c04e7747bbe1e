"""The variants above the baseline, each holding only the components it changes."""
