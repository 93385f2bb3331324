"""A clinical study with known truth, written as real FCS files."""

from cytoclust.simulate.clinical_study import study

__all__ = ["study"]
