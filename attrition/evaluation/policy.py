"""What a candidate must reach to be registered: thresholds as data, read from ``tune_configs/gates.yaml``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from attrition.settings import GATES, config_file, load_yaml

if TYPE_CHECKING:
    from pathlib import Path

OnInconclusive = Literal["hold", "warn"]
Share = Annotated[float, Field(ge=0, le=1)]


class _Gate(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    on_inconclusive: OnInconclusive = "hold"
    """What an interval that contains the threshold does: ``hold`` the candidate, or ``warn`` and let it pass."""


class Floor(_Gate):
    """A share that must not lie below a minimum."""

    minimum: Share
    """PASS when the whole interval is at or above, FAIL when the whole interval is below."""


class Ceiling(_Gate):
    """A share that must not lie above a maximum."""

    maximum: Share
    """PASS when the whole interval is at or below, FAIL when the whole interval is above."""


class LatencyLimit(_Gate):
    """Time of scoring one record."""

    maximum_ms: Annotated[float, Field(gt=0)]
    """Milliseconds for the 99th percentile, without HTTP."""


class ChampionMargin(_Gate):
    """Comparison with the version in production, on the same persons."""

    margin: Share
    """AUC that a candidate may lose against the champion and still count as not worse."""


class FairnessGates(BaseModel):
    """Selection and error rates by department, age band and each sensitive attribute."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: bool = True
    """False: fairness is not judged, and the verdict says so."""
    required: bool = False
    """True: a candidate whose fairness cannot be compared at all is held; False: the verdict only says so."""
    min_group_size: Annotated[int, Field(ge=10)] = 50
    """Rows below which a group is counted, not compared: below 50 an interval spans some 25 points."""
    ratio: Floor
    """Smallest over largest selection rate."""
    difference: Ceiling
    """Largest minus smallest selection rate."""
    fpr_difference: Ceiling | None = None
    """Largest minus smallest share of stayers flagged; null is not asked."""
    fnr_difference: Ceiling | None = None
    """Largest minus smallest share of leavers missed; null is not asked."""
    report_only: tuple[str, ...] = ()
    """Attributes whose figures are shown and never hold a candidate."""


class GatePolicy(BaseModel):
    """Thresholds of every gate. A gate left out (null) is not asked, and its result is NOT_APPLICABLE.

    Examples
    --------
    >>> policy = GatePolicy.default()
    >>> policy.auc.minimum, policy.with_overrides(min_auc=0.9).auc.minimum
    (0.85, 0.9)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "gates"
    """Name for readers."""
    description: str = ""
    """One sentence for readers."""
    auc: Floor | None = None
    """Area under the ROC curve."""
    accuracy: Floor | None = None
    """Share of right decisions at the candidate's threshold."""
    calibration_error: Ceiling | None = None
    """Expected calibration error over ten bins of equal mass."""
    fairness: FairnessGates
    """Evenness of decisions over groups."""
    data_quality: bool = True
    """True: a finding of severity ERROR fails the candidate."""
    latency: LatencyLimit | None = None
    """Time of scoring one record."""
    champion: ChampionMargin | None = None
    """Not worse than the version in production."""

    @classmethod
    def load(cls, name: str | Path) -> GatePolicy:
        """Policy from a path (``my/gates.yaml``) or the name of a shipped one (``gates``).

        Raises
        ------
        ConfigError
            Not found, an unknown key or a value out of range; every fault is named.
        """
        return load_yaml(config_file("tune_configs", name, kind=lambda found: found.startswith(GATES)), cls)

    @classmethod
    def default(cls) -> GatePolicy:
        """The policy in ``tune_configs/gates.yaml``."""
        return cls.load("gates")

    def with_overrides(
        self,
        *,
        min_auc: float | None = None,
        min_accuracy: float | None = None,
        bias_threshold: float | None = None,
        check_fairness: bool | None = None,
    ) -> GatePolicy:
        """The policy with some thresholds replaced; None keeps what it says.

        Parameters
        ----------
        min_auc, min_accuracy : float, in [0, 1]
            Minimum of the gate; a gate that was left out is asked, and holds when inconclusive.
        bias_threshold : float, in [0, 1]
            Largest allowed difference of selection rates.
        check_fairness : bool
            Whether fairness is judged; True also requires that there was something to compare.

        Raises
        ------
        ConfigError
            A threshold outside [0, 1]; every fault is named.
        """
        from pydantic import ValidationError

        from attrition.errors import ConfigError
        from attrition.settings import config_faults

        document = self.model_dump()
        for gate, minimum in (("auc", min_auc), ("accuracy", min_accuracy)):
            if minimum is not None:
                document[gate] = {**(document[gate] or {}), "minimum": minimum}
        if bias_threshold is not None:
            document["fairness"]["difference"]["maximum"] = bias_threshold
        if check_fairness is not None:
            document["fairness"] |= {"check": check_fairness, "required": check_fairness}
        try:
            return GatePolicy.model_validate(document)
        except ValidationError as error:
            raise ConfigError(config_faults("gates", error, GatePolicy)) from error
