"""Read event files and studies into AnnData, and write results back to FCS."""

from cytoclust.io.fcs import FcsDataset, read_fcs_datasets

__all__ = ["FcsDataset", "read_fcs_datasets"]
