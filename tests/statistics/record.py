"""Records what scipy, pandas and numpy say of some tables, for the tests of shared::statistics.

    python -m venv /tmp/venv && /tmp/venv/bin/pip install -r tests/statistics/requirements.txt
    /tmp/venv/bin/python tests/statistics/record.py > tests/statistics/recorded.json
"""

import itertools
import json
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
from scipy import stats

rng = np.random.default_rng(7)
warnings.simplefilter("ignore")


def f32(values):
    return np.asarray(values, dtype=np.float32).astype(float)


def plain(values):
    return [None if v is None or np.isnan(v) else float(v) for v in values]


def level(n, df=None, widening=None):
    """The confidence level that makes up for few pairs."""
    widening = np.sqrt(n / (n - 1)) if widening is None else widening
    t = stats.t.ppf(0.975, n - 1 if df is None else df)
    return 1 - 2 * stats.norm.cdf(-widening * t)


def bca(data, statistic, replicates, confidence, paired=False):
    before = SimpleNamespace(bootstrap_distribution=np.asarray(replicates))
    found = stats.bootstrap(
        data, statistic, n_resamples=0, bootstrap_result=before, method="BCa",
        confidence_level=confidence, paired=paired, vectorized=True,
    )
    return [float(found.confidence_interval.low), float(found.confidence_interval.high)]


def mean(x, axis=-1):
    return np.mean(x, axis=axis)


def ratio(x, y, axis=-1):
    return np.mean(x, axis=axis) / np.mean(y, axis=axis)


def less(x, y, axis=-1):
    return np.mean(x, axis=axis) - np.mean(y, axis=axis)


def describe():
    table = f32(rng.normal(size=(11, 5)))
    table[rng.random(table.shape) < 0.3] = np.nan
    table[:, 3] = np.nan
    table[4, 3] = 2.5
    frame = pd.DataFrame(table)
    columns = [frame.count(), frame.mean(), frame.median(), frame.std()]
    return {
        "table": [plain(row) for row in table],
        "cells": [plain(cell) for cell in np.array(columns).T],
    }


def means():
    cases = []
    for n, draw in [(11, rng.normal), (14, rng.exponential), (25, rng.standard_cauchy)]:
        x = f32(draw(size=n))
        drawn = rng.integers(n, size=(199, n))
        interval = bca((x,), mean, x[drawn].mean(axis=1), level(n))
        cases.append({"x": x.tolist(), "drawn": drawn.tolist(), "value": x.mean(), "interval": interval})
    return cases


def ratios():
    cases = []
    for n in [10, 16]:
        y = f32(rng.gamma(6.0, size=n))
        x = f32(0.6 * y + rng.exponential(size=n))
        drawn = rng.integers(n, size=(199, n))
        replicates = x[drawn].mean(axis=1) / y[drawn].mean(axis=1)
        interval = bca((x, y), ratio, replicates, level(n), paired=True)
        cases.append({
            "x": x.tolist(), "y": y.tolist(), "drawn": drawn.tolist(),
            "value": ratio(x, y), "interval": interval,
        })
    return cases


def unpaired():
    cases = []
    for n, m in [(10, 17), (30, 12)]:
        x, y = f32(rng.exponential(2.0, size=n)), f32(rng.normal(size=m))
        drawn = [rng.integers(k, size=(199, k)) for k in (n, m)]
        replicates = x[drawn[0]].mean(axis=1) - y[drawn[1]].mean(axis=1)
        welch = stats.ttest_ind(x, y, equal_var=False)
        unbiased = x.var(ddof=1) / n + y.var(ddof=1) / m
        resampled = x.var() / n + y.var() / m
        confidence = level(None, df=np.floor(welch.df), widening=np.sqrt(unbiased / resampled))
        cases.append({
            "x": x.tolist(), "y": y.tolist(), "drawn": [d.tolist() for d in drawn],
            "value": less(x, y), "interval": bca((x, y), less, replicates, confidence),
        })
    return cases


def resampled():
    """With resamples of scipy's own: equal but for chance."""
    x = f32(rng.lognormal(size=40))
    found = stats.bootstrap((x,), np.mean, n_resamples=50_000, method="BCa",
                            confidence_level=level(40), random_state=rng)
    return {"x": x.tolist(), "interval": list(found.confidence_interval)}


def tests():
    def t(x, axis=-1):
        return stats.ttest_1samp(x, 0, axis=axis).statistic

    n, n_cells = 9, 5
    table = f32(rng.normal(size=(n, n_cells)) + np.array([0, 0.5, 1, 2, -1]))
    p = [
        stats.permutation_test((x,), t, permutation_type="samples", n_resamples=np.inf).pvalue
        for x in table.T
    ]
    signs = np.array(list(itertools.product([-1, 1], repeat=n)))
    flipped = np.abs(t(signs[:, :, None] * table[None], axis=1))
    seen = np.abs(t(table, axis=0))
    family = [(flipped.max(axis=1) >= s * (1 - 1e-9)).mean() for s in seen]
    drawn = rng.random(20) ** 3
    return {
        "table": table.tolist(), "p": plain(p), "p_family": plain(family),
        "false_discovery": {
            "p": drawn.tolist(), "q": stats.false_discovery_control(drawn).tolist(),
        },
    }


if __name__ == "__main__":
    recorded = {
        "describe": describe(), "means": means(), "ratios": ratios(), "unpaired": unpaired(),
        "resampled": resampled(), "tests": tests(),
    }
    print(json.dumps(recorded, separators=(",", ":")))
