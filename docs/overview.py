"""Draw the picture of README and documentation from a simulated study: ``python docs/overview.py``."""

import tempfile
from pathlib import Path

from matplotlib.figure import Figure

import cytoclust as cc

PICTURE = Path(__file__).parent / "_static" / "overview.png"
DESIGN = {"treatment_key": "visit", "compartment_key": "compartment", "donor_key": "patient"}
SHOWN = ("effector Treg", "CD56dim CD57+ NK", "CD8 EM")

study = cc.simulate.study(Path(tempfile.mkdtemp()), events_per_sample=(600, 1500), rng=7)
adata = cc.pipeline.run(
    study / "samples.csv", study / "panel.csv", **DESIGN, definitions=("human_leukocyte", "b_all")
)

figure = Figure(figsize=(13, 6.2), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1.25, 1])
cc.pl.umap(adata, color="phenotype", ax=left.subplots())
for population, ax in zip(SHOWN, right.subplots(len(SHOWN), 1, sharex=True), strict=True):
    cc.pl.abundance(adata, population, **DESIGN, ax=ax)
figure.savefig(PICTURE, dpi=110)
print(PICTURE, f"{PICTURE.stat().st_size / 1000:.0f} kB")
