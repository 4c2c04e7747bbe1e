"""The rungs above the baseline, each holding only the slots it changes."""
