"""Read event files and studies into AnnData, and write results back to FCS."""

from cytoclust.io.fcs import FcsDataset, read_fcs_datasets
from cytoclust.io.sheets import read_samples
from cytoclust.io.study import read_study

__all__ = ["FcsDataset", "read_fcs_datasets", "read_samples", "read_study"]
