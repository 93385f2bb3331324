"""Prepare events: quality flags, compensation, transformation, neighbours."""

from cytoclust.pp.compensation import compensate
from cytoclust.pp.graph import neighbors
from cytoclust.pp.transform import arcsinh, estimate_cofactors

__all__ = ["arcsinh", "compensate", "estimate_cofactors", "neighbors"]
