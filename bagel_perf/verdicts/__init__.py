"""Pure functions from runs to conclusions; no torch, no files."""
