"""Triton kernels, each held bit for bit to the operators in ``reference``; imported where there is a GPU alone."""
