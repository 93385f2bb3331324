"""Statistics for populations that were gated elsewhere: a counts table and a sample table."""

# %% Counts: populations x samples; samples: one row each
import numpy as np
import pandas as pd

import cytoclust as cc

rng = np.random.default_rng(3)
samples = pd.DataFrame(
    [(f"P{p}_{visit}", f"P{p}", visit) for p in range(12) for visit in ("d0", "d7", "d28")],
    columns=["sample", "patient", "visit"],
)
shares = rng.dirichlet([30, 20, 10, 5, 2], size=len(samples))
shares[samples["visit"] == "d7", 3] *= 3  # the fourth population triples at d7
counts = pd.DataFrame(
    (shares * 20_000).astype(int).T,
    index=pd.Index(["CD4 T", "CD8 T", "B cell", "NK cell", "Treg"], name="population"),
    columns=samples["sample"],
)

# %% The same function as for event data
result = cc.tl.differential_abundance(
    counts,
    samples=samples,
    sample_key="sample",
    donor_key="patient",
    treatment_key="visit",
    baseline="d0",
)
print(
    result[
        ["population", "contrast", "log2_fold_change", "ci_low", "ci_high", "fdr", "status"]
    ].to_string(index=False)
)
