"""Recorded traces: read into columns, then asked where the CPU waited and where the GPU had nothing to do."""
