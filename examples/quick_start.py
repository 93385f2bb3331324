"""From a folder of FCS files to tested changes, in a few lines.

A small study is simulated first, so that the script runs anywhere within a minute.
"""

# %% A study: FCS files, samples.csv, panel.csv
import tempfile
from pathlib import Path

import cytoclust as cc

folder = Path(tempfile.mkdtemp())
cc.simulate.study(folder / "study", n_patients=6, events_per_sample=(300, 500), rng=1)

# %% Everything in one call
adata = cc.pipeline.run(
    folder / "study" / "samples.csv",
    folder / "study" / "panel.csv",
    folder / "run",
    treatment_key="visit",
    compartment_key="compartment",
    donor_key="patient",
    definitions=("human_leukocyte", "b_all"),
)
print(adata)

# %% What changed, when, and where
table = adata.uns["cytoclust"]["differential_abundance"]["table"]
found = table[table["fdr"] < 0.05].sort_values("fdr")
print(
    found[["population", "compartment", "contrast", "log2_fold_change", "fdr"]].to_string(
        index=False
    )
)
print("Report:", folder / "run" / "report.html")
