"""Prepare events: quality flags, compensation, transformation, neighbours."""

from cytoclust.pp.compensation import compensate
from cytoclust.pp.filtering import filter_events
from cytoclust.pp.graph import neighbors
from cytoclust.pp.profile import profile_quality
from cytoclust.pp.quality import flag_doublets, flag_invalid, flag_margins, flag_time_drift
from cytoclust.pp.transform import arcsinh, estimate_cofactors
from cytoclust.pp.viability import flag_dead, flag_debris

__all__ = [
    "arcsinh",
    "compensate",
    "estimate_cofactors",
    "filter_events",
    "flag_dead",
    "flag_debris",
    "flag_doublets",
    "flag_invalid",
    "flag_margins",
    "flag_time_drift",
    "neighbors",
    "profile_quality",
]
