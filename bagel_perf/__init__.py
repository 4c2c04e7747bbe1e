"""Measures BAGEL picture editing under variants of its control flow, and proves their pictures identical."""
