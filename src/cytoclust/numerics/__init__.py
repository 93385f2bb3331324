"""Algorithms on arrays: the only importer of numba; no AnnData, no pandas, no plots."""
