"""The table of roles, exhaustively, and the rules between persons."""

from __future__ import annotations

import itertools

import pytest
from pydantic import ValidationError

from attrition.errors import AccessDenied, ConfigError
from attrition.governance.access import Principal, Role, RolePolicy, RoleRule
from attrition.governance.actions import Action

# Written by hand from what the roles are for, in this order: engineer, lead, scientist, auditor, scorer, operator.
# A change of roles.yaml must be made here a second time, by somebody who means it.
ROLES = (
    Role.ML_ENGINEER,
    Role.ML_LEAD,
    Role.DATA_SCIENTIST,
    Role.COMPLIANCE_AUDITOR,
    Role.SCORER,
    Role.OPERATOR,
)
TABLE = {
    "data.import": "EL---O",
    "data.view": "ELDA-O",
    "outcome.import": "EL--SO",
    "model.train": "ELD--O",
    "model.validate": "ELD--O",
    "model.register": "ELD--O",
    "model.waive": "-L----",
    "model.alias": "EL----",
    "model.approve": "-L----",
    "model.certify": "-L-A--",
    "model.view": "ELDASO",
    "model.download": "ELDA-O",
    "model.delete": "-L----",
    "serving.deploy": "EL---O",
    "traffic.view": "ELDA-O",
    "traffic.change": "EL---O",
    "traffic.promote": "-L---O",
    "traffic.rollback": "EL---O",
    "prediction.score": "ELD-SO",
    "prediction.batch": "ELD-SO",
    "prediction.view": "ELDA--",
    "prediction.explain": "ELDAS-",
    "privacy.report": "-L-A--",
    "privacy.erase": "-L-A--",
    "privacy.retention": "-L-A-O",
    "monitoring.drift": "ELD--O",
    "monitoring.performance": "ELDA-O",
    "monitoring.alert": "ELD--O",
    "retraining.decide": "EL---O",
    "experiment.run": "ELD--O",
    "cluster.job": "EL---O",
    "cluster.change": "EL---O",
    "access.manage": "-L----",
    "access.view": "-L-A--",
    "access.denied": "------",
    "audit.view": "-L-A--",
    "audit.export": "---A-O",
}


def test_every_action_stands_in_the_golden_table():
    """A new action must be given to somebody here before it can be merged."""
    assert set(TABLE) == set(Action)
    assert tuple(RolePolicy.default().roles) == ROLES


@pytest.mark.parametrize(("role", "action"), list(itertools.product(ROLES, Action)))
def test_every_role_and_every_action(role, action):
    """What the shipped table permits is what was meant."""
    wanted = TABLE[action][ROLES.index(role)] != "-"
    policy, principal = RolePolicy.default(), Principal("somebody", (role,))
    assert policy.permits(principal, action) is wanted
    if wanted:
        policy.require(principal, action)
    else:
        with pytest.raises(AccessDenied, match=f"{action}: is not permitted to somebody \\({role}\\)"):
            policy.require(principal, action)


def test_several_roles_permit_the_union():
    """And no role, or an unknown one, nothing."""
    policy = RolePolicy.default()
    both = policy.actions_of(Principal("x", (Role.SCORER, Role.COMPLIANCE_AUDITOR)))
    alone = [policy.actions_of(Principal("x", (role,))) for role in (Role.SCORER, Role.COMPLIANCE_AUDITOR)]
    assert both == alone[0] | alone[1]
    assert policy.actions_of(Principal("x")) == policy.actions_of(Principal("x", ("root", "admin"))) == frozenset()


def test_the_local_user_may_do_everything_but_be_refused():
    """Where access is open."""
    permitted = RolePolicy.default().actions_of(Principal("me", unrestricted=True))
    assert permitted == set(Action) - {Action.ACCESS_DENIED}


def test_a_refusal_names_who_may():
    """So that the reader knows whom to ask."""
    with pytest.raises(AccessDenied, match="permitted: ml_lead"):
        RolePolicy.default().require(Principal("e", (Role.ML_ENGINEER,)), Action.APPROVE)


@pytest.mark.parametrize("principal", ["ada", " Ada ", "ADA"])
def test_the_author_may_not_approve(principal):
    """However the name is spelt."""
    policy = RolePolicy.default()
    with pytest.raises(AccessDenied, match="its author may not approve it"):
        policy.require_other_eyes(Principal(principal), ("bob", "ada"), "version 1.1.0")
    policy.require_other_eyes(Principal("carol"), ("bob", "ada"), "version 1.1.0")


@pytest.mark.parametrize("authors", [(), ("",), (" ", "")])
def test_unknown_authors_are_not_somebody_else(authors):
    """What is not known cannot be ruled out."""
    with pytest.raises(AccessDenied, match="has no recorded author"):
        RolePolicy.default().require_other_eyes(Principal("ada"), authors, "version 1.1.0")


def test_a_second_name_from_the_author_is_the_author():
    """Who made the approver's key, at whatever distance, must not be an author either."""
    policy, grace = RolePolicy.default(), Principal("grace", ("ml_lead",))
    policy.require_other_eyes(grace, ("ada",), "version 1.1.0", vouched_by=("lead", "root"))
    with pytest.raises(AccessDenied, match="made by Ada, from whom the key of grace comes"):
        policy.require_other_eyes(grace, ("ada",), "version 1.1.0", vouched_by=("lead", "Ada"))


def test_four_eyes_can_be_switched_off():
    """For somebody who works alone."""
    policy = RolePolicy.default().model_copy(update={"four_eyes": False})
    policy.require_other_eyes(Principal("ada"), ("ada",), "version 1.1.0")


def test_an_unknown_role_is_named_with_the_known_ones():
    """A near miss must not become a key without rights."""
    with pytest.raises(ConfigError, match=r"role 'ml_led'.*ml_lead"):
        RolePolicy.default().require_role("ml_led")


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (["model.aprove"], "unknown action model.aprove; did you mean model.approve"),
        (["fly"], "unknown action fly; actions: data.import, data.view"),
        (["access.denied"], "unknown action access.denied"),
        (["model.view", "model.view"], "stands here twice"),
        ("model.view", "frozenset|set"),
    ],
)
def test_mistakes_in_a_rule(actions, message):
    """An action that does not exist, one that nobody performs, one twice, no list."""
    with pytest.raises(ValidationError, match=message):
        RoleRule.model_validate({"summary": "x", "actions": actions})


@pytest.mark.parametrize("roles", [{}, {"a b": {"summary": "x", "actions": []}}])
def test_mistakes_in_a_table(roles):
    """No role at all, or a name that is none."""
    with pytest.raises(ValidationError):
        RolePolicy.model_validate({"roles": roles})


def test_equal_tables_look_equal_wherever_they_are_stored():
    """A replica must not be restarted because a set was written in another order."""
    first, again = RolePolicy.default(), RolePolicy.default()
    assert first.model_dump_json() == again.model_dump_json()
    assert RolePolicy.model_validate(first.model_dump(mode="json")) == first
    assert first.rows[0] == ("data.import", tuple(mark != "-" for mark in TABLE["data.import"]))
