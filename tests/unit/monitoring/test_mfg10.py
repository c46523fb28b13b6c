"""Drift of a public extract over ten years, against figures that were computed without this project."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from attrition.evaluation.sketches import CategoryReference, Reference
from attrition.monitoring.drift import compare

YEARS = range(2007, 2016)
PSI_OF_TENURE = [0.021, 0.074, 0.138, 0.200, 0.255, 0.329, 0.415, 0.826, 1.002]


@pytest.fixture(scope="module")
def by_year(shared_data):
    frame = pd.read_csv(shared_data / "MFG10YearTerminationData.csv.gz")
    coded = {
        "tenure": frame["length_of_service"].astype(float),
        "age": frame["age"].astype(float),
        "gender": frame["gender_short"].astype("category").cat.codes.astype(float),
        "business_unit": frame["BUSINESS_UNIT"].astype("category").cat.codes.astype(float),
        "department": frame["department_name"].astype("category").cat.codes.astype(float),
    }
    columns = pd.DataFrame(coded)
    return dict(iter(columns.groupby(frame["STATUS_YEAR"])))


@pytest.fixture(scope="module")
def drifts(by_year):
    first = by_year[2006]
    numeric = {"tenure", "age"}
    references = {
        name: (Reference if name in numeric else CategoryReference).of(column) for name, column in first.items()
    }
    return {
        year: {
            drift.feature: drift
            for drift in compare(references, {name: references[name].sketch(by_year[year][name]) for name in first})
        }
        for year in YEARS
    }


def test_tenure_drifts_year_by_year(drifts):
    """Its stability index against 2006, in ten bins; moderate from 2009, major from 2011."""
    found = [drifts[year]["tenure"].psi for year in YEARS]
    assert found == pytest.approx(PSI_OF_TENURE, abs=6e-4)
    levels = [drifts[year]["tenure"].level.value for year in YEARS]
    assert levels == ["STABLE"] * 2 + ["MODERATE"] * 2 + ["MAJOR"] * 5


def test_what_does_not_drift_is_quiet(drifts):
    """Gender and business unit stay under .02; age stays below .134."""
    for year in YEARS:
        for name in ("gender", "business_unit"):
            assert drifts[year][name].psi < 0.02
            assert not drifts[year][name].level.drifted
        assert drifts[year]["age"].psi < 0.135


def test_departments_reach_a_fifth_in_2012(drifts):
    """And go beyond; the exact figure depends on how an empty bin counts."""
    found = {year: drifts[year]["department"].psi for year in YEARS}
    assert found[2011] < 0.16
    assert found[2012] == pytest.approx(0.2, abs=0.005)
    assert min(found[year] for year in range(2013, 2016)) > 0.25
    assert np.isfinite(list(found.values())).all()
