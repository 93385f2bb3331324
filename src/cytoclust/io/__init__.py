"""Read event files and studies into AnnData, and write results back to FCS."""

from cytoclust.io.conversion import convert_study, open_study
from cytoclust.io.export import write_fcs
from cytoclust.io.fcs import FcsDataset, read_fcs_datasets
from cytoclust.io.fcs_facts import describe_fcs, read_fcs
from cytoclust.io.gates import read_flowjo_gates, read_gates
from cytoclust.io.sheets import read_samples
from cytoclust.io.study import read_study

__all__ = [
    "FcsDataset",
    "convert_study",
    "describe_fcs",
    "open_study",
    "read_fcs",
    "read_fcs_datasets",
    "read_flowjo_gates",
    "read_gates",
    "read_samples",
    "read_study",
    "write_fcs",
]
