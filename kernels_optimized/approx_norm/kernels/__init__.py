"""Triton kernels, each held within a tolerance to PyTorch's operators; imported where there is a GPU alone."""
