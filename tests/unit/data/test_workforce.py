"""The simulator: a consistent time axis, plausible people, scenarios that move what they say, and a fair, hard task."""

from __future__ import annotations

import gzip
import time
from dataclasses import FrozenInstanceError, replace
from datetime import date
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp

from attrition.data.extracts import read_extract
from attrition.data.schema import FeatureSchema
from attrition.data.workforce import DEPARTMENTS, HORIZON_QUARTERS, SCENARIOS, Scenario, simulate, write_extract
from attrition.errors import ExtractError, UsageError
from attrition.governance.privacy import PseudonymKey

SCHEMA = FeatureSchema.default()
FEATURES = list(SCHEMA.names)
COLUMNS = ["employee_id", "snapshot_date", *FEATURES, "gender", "attrition"]
VISIBLE = 0.1
"""Shift that a monitor should name."""
QUIET = 0.085
"""Shift that it should not."""


@pytest.fixture(scope="module")
def years():
    """Three years of 4,000 people to whom nothing special happens."""
    return simulate(4_000, n_quarters=12, seed=7)


@pytest.fixture(scope="module")
def large():
    """One snapshot, large enough for small differences."""
    return simulate(40_000, seed=11)


def quarters(frame):
    """Snapshots in order of time, indexed by person."""
    return [part.set_index("employee_id") for _, part in frame.groupby("snapshot_date")]


def shift(before, after):
    """Kolmogorov-Smirnov distance of the values present, or the change in the share missing if that is larger."""
    distance = ks_2samp(before.dropna(), after.dropna(), method="asymp").statistic
    return max(distance, abs(before.isna().mean() - after.isna().mean()))


def shifts(before, after):
    return {name: shift(before[name], after[name]) for name in FEATURES}


class TestFrame:
    def test_columns_and_dates(self, years):
        """Columns stand in the order of the contract; a snapshot is the end of a quarter."""
        assert list(years) == COLUMNS
        dates = years["snapshot_date"].drop_duplicates().dt.strftime("%Y-%m-%d").tolist()
        assert dates[:5] == ["2024-03-31", "2024-06-30", "2024-09-30", "2024-12-31", "2025-03-31"]
        assert len(dates) == 12
        assert years["snapshot_date"].is_monotonic_increasing

    def test_another_first_quarter(self):
        """The time axis starts where it is asked to."""
        dates = simulate(5, n_quarters=2, first_quarter_end=date(2019, 12, 31))["snapshot_date"].unique()
        assert [str(day.date()) for day in dates] == ["2019-12-31", "2020-03-31"]

    def test_one_row_per_person_and_quarter(self, years):
        """Headcount is constant, and nobody is counted twice on a day."""
        assert years.groupby("snapshot_date").size().eq(4_000).all()
        assert not years.duplicated(["employee_id", "snapshot_date"]).any()
        assert years["employee_id"].str.fullmatch(r"E\d{6}").all()

    def test_values_lie_in_the_schema(self, years):
        """Every value is missing or within the range and kind of its feature."""
        for feature in SCHEMA.features:
            values = years[feature.name].dropna()
            low, high = feature.bounds
            assert values.between(low, high).all(), feature.name
            if feature.kind != "continuous":
                assert (values == values.round()).all(), feature.name
        assert set(years["department_code"]) == set(DEPARTMENTS)
        assert set(years["gender"]) == {"female", "male"}
        assert set(years["attrition"]) == {0, 1}

    def test_people_are_plausible(self, years):
        """Medians and spreads are those of an ordinary company."""
        middle = years[FEATURES].median()
        assert 30 <= middle["age"] <= 42
        assert 36 <= middle["tenure"] <= 96
        assert 38 <= middle["work_hours"] <= 43
        assert 3 <= middle["satisfaction_score"] <= 4.2
        assert 0.2 <= years["promotion_flag"].mean() <= 0.4
        assert 40_000 <= middle["salary"] <= 70_000
        assert ((years["age"] * 12 - years["tenure"]) >= 17 * 12).all()

    def test_missing_values(self, years):
        """A few do not answer the survey; newcomers have no appraisal; nothing else is missing."""
        missing = years.isna().mean()
        assert missing["satisfaction_score"] == pytest.approx(0.03, abs=0.005)
        assert 0.03 < missing["performance_rating"] < 0.12
        assert missing.drop(["satisfaction_score", "performance_rating"]).eq(0).all()
        assert years.loc[years["performance_rating"].isna(), "tenure"].lt(3).all()

    def test_departments_have_labels_and_sizes(self, years):
        """Codes and labels are fixed; sizes are unequal, and the smallest is large enough to judge."""
        assert dict(DEPARTMENTS) == {
            1: "sales",
            2: "engineering",
            3: "support",
            4: "people",
            5: "finance",
            6: "operations",
        }
        share = years["department_code"].value_counts(normalize=True)
        assert share.max() > 1.7 * share.min()
        assert share.min() > 0.09


class TestReproducibility:
    def test_equal_seeds_give_equal_frames(self):
        """The seed determines everything, and another seed gives other people."""
        first, second = (simulate(300, n_quarters=3, seed=5, scenario=None) for _ in range(2))
        pd.testing.assert_frame_equal(first, second)
        assert not first.equals(simulate(300, n_quarters=3, seed=6))

    def test_global_random_state_is_neither_read_nor_moved(self):
        """Only the seed counts."""
        np.random.seed(1)  # noqa: NPY002 - the legacy global state is what is being tested
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        first = simulate(50)
        np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
        np.random.seed(2)  # noqa: NPY002
        pd.testing.assert_frame_equal(first, simulate(50))

    @pytest.mark.parametrize("name", SCENARIOS)
    def test_features_before_a_scenario_are_those_without_it(self, name):
        """A scenario cannot reach back in time: only outcomes, which look ahead, may differ."""
        start = SCENARIOS[name].start_quarter
        usual = simulate(400, n_quarters=start + 1, seed=3)
        changed = simulate(400, n_quarters=start + 1, seed=3, scenario=name)
        features = [column for column in COLUMNS if column != "attrition"]
        for before, after in list(zip(quarters(usual), quarters(changed), strict=True))[:start]:
            pd.testing.assert_frame_equal(before[features[1:]], after[features[1:]])
        assert not quarters(usual)[start].equals(quarters(changed)[start])

    def test_a_later_start_is_a_replacement(self):
        """Scenarios are frozen data; a copy may start at once, in a single snapshot."""
        with pytest.raises(FrozenInstanceError):
            SCENARIOS["hiring_wave"].start_quarter = 0
        at_once = replace(SCENARIOS["restructuring"], start_quarter=0)
        usual, changed = simulate(2_000, seed=4), simulate(2_000, seed=4, scenario=at_once)
        assert changed["satisfaction_score"].mean() < usual["satisfaction_score"].mean() - 0.3


class TestTimeAxis:
    def test_outcome_is_absence_a_year_later(self, years):
        """Who is labelled as leaving is gone four quarters later, and everybody else is still there."""
        parts = quarters(years)
        for now, later in zip(parts, parts[HORIZON_QUARTERS:], strict=False):
            gone = ~now.index.isin(later.index)
            np.testing.assert_array_equal(now["attrition"].to_numpy(bool), gone)

    def test_nobody_returns(self, years):
        """Once gone, a person stays gone, and the number is not given to another."""
        present = years.assign(there=1).pivot_table(index="employee_id", columns="snapshot_date", values="there")
        there = present.notna().to_numpy()
        n_returns = ((~there[:, :-1]) & there[:, 1:]).sum(axis=1) - ~there[:, 0]
        assert (n_returns == 0).all()

    def test_those_who_stay_live_on(self, years):
        """Three months of tenure and a quarter of a year of age per quarter; department and gender stay."""
        parts = quarters(years)
        for now, later in pairwise(parts):
            both = now.index.intersection(later.index)
            a, b = now.loc[both], later.loc[both]
            assert (b["tenure"] - a["tenure"]).eq(3).all()
            assert (b["age"] - a["age"]).isin([0, 1]).all()
            assert b["gender"].eq(a["gender"]).all()
            assert b["department_code"].eq(a["department_code"]).all()
        both = parts[0].index.intersection(parts[4].index)
        assert (parts[4].loc[both, "age"] - parts[0].loc[both, "age"]).eq(1).all()

    def test_hires_are_new(self, years):
        """Whoever appears for the first time has less than three months of tenure and is not retiring."""
        parts = quarters(years)
        hired = parts[1].loc[~parts[1].index.isin(parts[0].index)]
        assert len(hired) > 100
        assert hired["tenure"].lt(3).all()
        assert hired["age"].between(18, 58).all()
        assert hired["promotion_flag"].eq(0).all()

    def test_traits_persist_but_not_for_ever(self, years):
        """Satisfaction and hours of a person correlate over a year, less than over a quarter."""
        parts = quarters(years)
        for name in ("satisfaction_score", "work_hours"):
            near = parts[0][name].corr(parts[1][name].reindex(parts[0].index))
            far = parts[0][name].corr(parts[8][name].reindex(parts[0].index))
            assert near > 0.85
            assert 0.2 < far < near - 0.1

    def test_promotions_happen_and_fade(self, years):
        """A flag appears, stays for eight quarters at most without another promotion, and pay rises with it."""
        parts = quarters(years)
        both = parts[0].index.intersection(parts[1].index)
        a, b = parts[0].loc[both], parts[1].loc[both]
        promoted = (a["promotion_flag"] == 0) & (b["promotion_flag"] == 1)
        faded = (a["promotion_flag"] == 1) & (b["promotion_flag"] == 0)
        assert 0.01 < promoted.mean() < 0.08
        assert faded.any()
        raises = b["salary"] / a["salary"] - 1
        assert raises[promoted].mean() > raises[~promoted].mean() + 0.04

    def test_nothing_drifts_by_itself(self, years):
        """Without a scenario two years change no distribution visibly."""
        parts = quarters(years)
        assert max(shifts(parts[0], parts[8]).values()) < QUIET
        rates = years.groupby("snapshot_date")["attrition"].mean()
        assert rates.max() - rates.min() < 0.03


class TestScenarios:
    @pytest.mark.parametrize("name", SCENARIOS)
    def test_moves_what_it_says_and_nothing_else(self, name):
        """At full effect every affected feature has moved visibly, and the others are quiet."""
        scenario = SCENARIOS[name]
        full = scenario.start_quarter + max(scenario.ramp_quarters, len(scenario.intake)) - 1
        parts = quarters(simulate(6_000, n_quarters=full + 1, seed=21, scenario=name))
        moved = shifts(parts[scenario.start_quarter - 1], parts[full])
        for feature in FEATURES:
            if feature in scenario.affected:
                assert moved[feature] > VISIBLE, feature
            elif feature not in scenario.followed_by:
                assert moved[feature] < QUIET, feature

    @pytest.mark.parametrize("name", SCENARIOS)
    def test_a_year_later_only_turnover_has_followed(self, name):
        """What stays quiet for good is neither affected nor moved by the hires that replace leavers."""
        scenario = SCENARIOS[name]
        parts = quarters(simulate(6_000, n_quarters=scenario.start_quarter + 4, seed=22, scenario=name))
        moved = shifts(parts[scenario.start_quarter - 1], parts[-1])
        for feature in set(FEATURES) - {*scenario.affected, *scenario.followed_by}:
            assert moved[feature] < QUIET, feature

    def test_restructuring_makes_more_people_leave(self):
        """Low morale and long hours drive the rate of leaving up by a third at least."""
        rates = simulate(6_000, n_quarters=5, seed=23, scenario="restructuring").groupby("snapshot_date")["attrition"]
        assert rates.mean().iloc[-1] > 1.33 * rates.mean().iloc[0]

    def test_restructuring_lengthens_hours_where_it_says(self):
        """Hours rise in sales, support and operations only."""
        usual = quarters(simulate(3_000, n_quarters=5, seed=23))[4]
        changed = quarters(simulate(3_000, n_quarters=5, seed=23, scenario="restructuring"))[4]
        more = (changed["work_hours"] - usual["work_hours"]).groupby(usual["department_code"]).mean()
        np.testing.assert_allclose(more, [4, 0, 4, 0, 0, 4], atol=0.05)

    def test_remote_work_changes_what_long_hours_mean(self):
        """Long hours cost fewer people at home than in the office, short hours more."""
        parts = quarters(simulate(12_000, n_quarters=9, seed=24, scenario="remote_work"))

        def excess(part, low, high):
            ranks = part["work_hours"].rank(pct=True)
            leaving = part["attrition"]
            return leaving[ranks.between(low, high)].mean() - leaving[ranks.between(0.4, 0.6)].mean()

        # the outcomes of quarter 0 precede the change, those of quarter 8 follow it
        assert excess(parts[0], 0.9, 1) > 0.1
        assert excess(parts[8], 0.9, 1) < 0.6 * excess(parts[0], 0.9, 1)
        assert excess(parts[8], 0, 0.1) > excess(parts[0], 0, 0.1) + 0.1
        assert SCENARIOS["remote_work"].changes_relation

    def test_salary_inflation_leaves_people_where_they_are(self):
        """Salaries rise by a fifth, everybody's by the same factor, and nobody leaves for it."""
        usual = quarters(simulate(2_000, n_quarters=8, seed=25))
        changed = quarters(simulate(2_000, n_quarters=8, seed=25, scenario="salary_inflation"))
        for before, after in zip(usual, changed, strict=True):
            pd.testing.assert_frame_equal(before.drop(columns="salary"), after.drop(columns="salary"))
        ratio = changed[7]["salary"] / usual[7]["salary"]
        np.testing.assert_allclose(ratio, np.exp(0.18), rtol=0.01)

    def test_hiring_wave_adds_people(self):
        """Headcount grows by the intake and stays there."""
        sizes = simulate(1_000, n_quarters=8, seed=26, scenario="hiring_wave").groupby("snapshot_date").size()
        assert sizes.tolist() == [1_000] * 4 + [1_250] + [1_350] * 3

    def test_own_scenario(self):
        """A scenario of one's own needs no registration."""
        own = Scenario("pay_cut", "Salaries fall.", start_quarter=0, affected=("salary",), market_growth=-0.2)
        assert simulate(200, scenario=own)["salary"].mean() < 0.85 * simulate(200)["salary"].mean()

    def test_every_scenario_documents_itself(self):
        """Names, features and departments exist, and lists are in schema order."""
        for name, scenario in SCENARIOS.items():
            assert scenario.name == name
            assert scenario.description.endswith(".")
            assert list(scenario.affected) == [feature for feature in FEATURES if feature in scenario.affected]
            assert set(scenario.followed_by) <= set(FEATURES) - set(scenario.affected)
            assert set(scenario.hours_departments) <= set(DEPARTMENTS)


class TestTask:
    def test_models_reach_their_bands(self):
        """A good model beats a plain one by what is non-linear, neither is perfect, and the gates can be passed."""
        from sklearn.compose import make_column_transformer
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import accuracy_score, roc_auc_score
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        learned, judged = simulate(), simulate(seed=43)
        prepare = make_column_transformer(
            (make_pipeline(SimpleImputer(), StandardScaler()), list(SCHEMA.numeric)),
            (OneHotEncoder(), list(SCHEMA.categorical)),
        )
        plain = make_pipeline(prepare, LogisticRegression(max_iter=1000, class_weight="balanced"))
        good = HistGradientBoostingClassifier(
            learning_rate=0.07, max_iter=150, max_leaf_nodes=10, min_samples_leaf=30, random_state=0
        )
        y = judged["attrition"].to_numpy()
        score = {
            name: model.fit(learned[FEATURES], learned["attrition"]).predict_proba(judged[FEATURES])[:, 1]
            for name, model in {"plain": plain, "good": good}.items()
        }
        auc = {name: roc_auc_score(y, values) for name, values in score.items()}
        assert 0.845 < auc["plain"] < 0.88
        assert 0.89 < auc["good"] < 0.925
        assert auc["good"] - auc["plain"] > 0.025
        decision = score["good"] > 0.5
        assert accuracy_score(y, decision) > 0.86
        for attribute in ("department_code", "gender"):
            selected = pd.Series(decision).groupby(judged[attribute]).mean()
            assert selected.max() - selected.min() < 0.06

    def test_rates(self, large):
        """About a fifth leave, and departments differ little."""
        assert 0.15 < large["attrition"].mean() < 0.22
        by_department = large.groupby("department_code")["attrition"].mean()
        assert by_department.max() - by_department.min() < 0.05

    def test_no_feature_gives_the_outcome_away(self, large):
        """The best single feature stays far from the leakage check."""
        from sklearn.metrics import roc_auc_score

        for name in FEATURES:
            known = large[[name, "attrition"]].dropna()
            assert abs(roc_auc_score(known["attrition"], known[name]) - 0.5) < 0.32, name

    def test_causes_have_their_shapes(self, large):
        """U-shapes, a peak in the tenure hazard, protection by promotion, overload that multiplies with discontent."""

        def rate(mask):
            return large.loc[mask, "attrition"].mean()

        hours, mood, tenure, rating = (
            large[name] for name in ("work_hours", "satisfaction_score", "tenure", "performance_rating")
        )
        assert min(rate(hours < 33), rate(hours > 49)) > 1.5 * rate(hours.between(39, 43))
        assert min(rate(large["projects_count"] <= 1), rate(large["projects_count"] >= 7)) > 1.5 * rate(
            large["projects_count"] == 4
        )
        assert rate(tenure.between(12, 30)) > 1.3 * rate(tenure.between(36, 60))
        assert rate(large["promotion_flag"] == 1) < 0.5 * rate(large["promotion_flag"] == 0)
        assert rate(mood < 2.5) > 4 * rate(mood > 4)
        assert rate(rating < 2) > 1.5 * rate(rating.between(2.8, 3.6))
        rewarded = large["promotion_flag"] == 1
        top = (rating > 4.3) & (tenure > 42)
        assert rate(top & ~rewarded) > 3 * rate(top & rewarded)
        both = rate((hours > 47) & (mood < 3.2)) - rate(hours.between(38, 44) & (mood < 3.2))
        alone = rate((hours > 47) & (mood > 4.2)) - rate(hours.between(38, 44) & (mood > 4.2))
        assert both > alone + 0.05

    def test_gender_causes_nothing(self, large):
        """Within departments women and men leave alike, and their features are alike."""
        rate = large.pivot_table(index="department_code", columns="gender", values="attrition")
        weight = large["department_code"].value_counts(normalize=True).sort_index()
        assert abs(((rate["female"] - rate["male"]) * weight).sum()) < 0.012
        engineers = large[large["department_code"] == 2]
        women, men = (engineers[engineers["gender"] == label] for label in ("female", "male"))
        assert max(shifts(women, men).values()) < 0.035

    def test_fifteen_thousand_people_are_quick(self):
        """A snapshot takes less than two seconds of processor time, three years less than ten."""
        for n_quarters, limit in ((1, 2.0), (12, 10.0)):
            start = time.process_time()
            simulate(15_000, n_quarters=n_quarters)
            assert time.process_time() - start < limit


class TestUsage:
    def test_all_faults_at_once(self):
        """Every argument that cannot be meant is named."""
        with pytest.raises(UsageError) as error:
            simulate(0, n_quarters=0, seed=-1, scenario="boom", first_quarter_end=date(2024, 3, 30))
        message = str(error.value)
        assert len(error.value.faults) == 5
        for word in ("n_employees", "n_quarters", "seed", "'boom' is unknown", "restructuring", "first_quarter_end"):
            assert word in message

    def test_a_scenario_that_would_never_start(self):
        """A run that ends before the change is refused, with the remedy."""
        with pytest.raises(UsageError, match="at least 5 quarters"):
            simulate(10, n_quarters=4, scenario="remote_work")

    def test_scenario_out_of_range(self):
        """A scenario checks its own effects, all of them."""
        with pytest.raises(UsageError) as error:
            Scenario(
                "x", "X.", start_quarter=-1, affected=(), ramp_quarters=0, remote=2, hours_spread=0, intake=(-1.0,),
                intake_age=10,
            )  # fmt: skip
        assert len(error.value.faults) == 6

    def test_one_person(self):
        """The smallest workforce works."""
        assert len(simulate(1, n_quarters=3)) == 3


class TestWriteExtract:
    def test_equal_frames_give_equal_bytes(self, tmp_path):
        """Neither the clock nor the file name gets into the file."""
        frame = simulate(50)
        first = write_extract(frame, tmp_path / "a.csv.gz")
        second = write_extract(frame, str(tmp_path / "new" / "b.csv.gz"))
        assert first.read_bytes() == second.read_bytes()
        assert first.read_bytes()[4:8] == b"\0\0\0\0"

    def test_plain_csv(self, tmp_path):
        """Without .gz the same text is written as it is."""
        frame = simulate(50)
        plain, packed = write_extract(frame, tmp_path / "a.csv"), write_extract(frame, tmp_path / "a.csv.gz")
        assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
        assert plain.read_text().splitlines()[0] == ",".join(COLUMNS)

    def test_reads_back_through_the_mapping(self, tmp_path):
        """The shipped mapping reads the extract as it is: same values, labels known, nothing unmapped."""
        frame = simulate(200, n_quarters=2)
        key = PseudonymKey.load_or_create(tmp_path / "keys" / "key")
        extract = read_extract(write_extract(frame, tmp_path / "w.csv.gz"), "workforce", key)
        table = extract.table
        np.testing.assert_array_equal(table.features.to_numpy(), frame[FEATURES].to_numpy(float))
        np.testing.assert_array_equal(table.target, frame["attrition"])
        assert table.dates.tolist() == frame["snapshot_date"].tolist()
        assert table.attributes["gender"].tolist() == frame["gender"].tolist()
        assert dict(table.schema["department_code"].categories) == dict(DEPARTMENTS)
        assert extract.unmapped == ()
        assert not set(table.persons) & set(frame["employee_id"])

    def test_unwritable_place(self, tmp_path):
        """A file in the way is reported, and nothing half-written stays."""
        (tmp_path / "file").write_text("x")
        with pytest.raises(ExtractError, match="cannot be written"):
            write_extract(simulate(5), tmp_path / "file" / "a.csv.gz")
        (tmp_path / "folder.csv.gz").mkdir()
        with pytest.raises(ExtractError, match="cannot be written"):
            write_extract(simulate(5), tmp_path / "folder.csv.gz")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.csv.gz"]
