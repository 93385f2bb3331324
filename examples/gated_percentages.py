"""Statistics for percentages of parent gates, as a study table from elsewhere holds them.

    python examples/gated_percentages.py [panel_a_subset.csv]

Without a file a table of the same layout is made: one row per patient and time, one column per gate.
"""

# %% One row per sample: patient, time, then percentages
import sys

import numpy as np
import pandas as pd

import cytoclust as cc

if len(sys.argv) > 1:
    table = pd.read_csv(sys.argv[1])
else:
    rng = np.random.default_rng(5)
    table = pd.DataFrame(
        [
            (patient, time)
            for patient in range(1, 19)
            for time in (1, 3, 5, 7)
            if rng.uniform() < 0.9
        ],
        columns=["study_code", "time"],
    )
    for gate, level in {
        "CD4 of T": 60,
        "Treg of CD4": 6,
        "PD-1+ of CD8": 20,
        "NK of live": 9,
    }.items():
        patient = rng.normal(0, 0.4, 19)[table["study_code"]]
        value = level * np.exp(0.3 * patient + rng.normal(0, 0.2, len(table)))
        table[gate] = np.minimum(value, 99)
    table.loc[table["time"] > 1, "Treg of CD4"] *= 1.8

# %% Populations x samples, and a sample sheet
table.insert(0, "sample", table["study_code"].astype(str) + " time " + table["time"].astype(str))
samples = table[["sample", "study_code", "time"]]
percent = table.set_index("sample").drop(columns=["study_code", "time"]).T
print(cc.tl.design(samples, treatment_key="time", donor_key="study_code", baseline="1"))

# %% Each percentage is a share of its own gate: no composition to correct, no cells to weigh by
result = cc.tl.differential_abundance(
    percent,
    samples=samples,
    treatment_key="time",
    donor_key="study_code",
    baseline="1",
    values="percent",
)
result = cc.tl.detectable_changes(result)
columns = [
    "population",
    "contrast",
    "log2_fold_change",
    "ci_low",
    "ci_high",
    "fdr",
    "detectable_change",
]
print(result.sort_values("p_value")[columns].head(12).round(3).to_string(index=False))

# %% The course of each gate over the four times
calls = cc.tl.classify_trajectories(result)
print(calls[["population", "call", "early_change", "late_change", "reason"]].round(2).to_string())
