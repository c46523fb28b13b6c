"""The access configuration, and who a process is."""

from __future__ import annotations

import pytest

from attrition.errors import ConfigError, NotAuthenticated, UsageError
from attrition.governance.access import Principal
from attrition.governance.access_config import AccessConfig
from attrition.governance.actions import Action
from attrition.governance.credentials import authorization, identify, local_user, presented
from attrition.settings import Settings

OIDC = "oidc: {issuer: 'https://id.example', audience: attrition, key_set: 'https://id.example/keys'"


def load(tmp_path, text):
    path = tmp_path / "access.yaml"
    path.write_text(text)
    return AccessConfig.load(path)


def test_the_default_has_the_shipped_roles_and_no_provider():
    """Nothing needs to be configured."""
    config = AccessConfig.load(None)
    assert config.oidc is None
    assert config.policy.four_eyes
    assert "ml_lead" in config.policy.roles


def test_an_own_table_replaces_the_shipped_one(tmp_path):
    """As a whole: what it does not list is refused."""
    config = load(tmp_path, "four_eyes: false\nroles: {boss: {summary: All., actions: [model.approve]}}\n")
    assert list(config.policy.roles) == ["boss"]
    assert not config.policy.four_eyes
    assert config.policy.permits(Principal("b", ("boss",)), Action.APPROVE)
    assert not config.policy.permits(Principal("b", ("ml_lead",)), Action.APPROVE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("role: {}\n", "unknown key role"),
        ("roles: {boss: {summary: x, actions: [fly]}}\n", "unknown action fly"),
        ("four_eyes: perhaps\n", "four_eyes"),
        (OIDC + ", roles: {Lead: ml_led}}\n", "unknown role ml_led"),
        (OIDC + ", algorithms: [HS256]}\n", "algorithms"),
        (OIDC + ", algorithms: [none]}\n", "algorithms"),
        (OIDC + ", algorithms: []}\n", "algorithms"),
        (OIDC + ", leeway_seconds: 3600}\n", "leeway_seconds"),
        ("oidc: {issuer: x, audience: y, key_set: 'http://id.example/keys'}\n", "https is needed"),
        ("oidc: {issuer: x, audience: y, key_set: 'https:///keys'}\n", "without a host"),
        ("oidc: {issuer: x}\n", "audience"),
    ],
)
def test_mistakes_are_named_with_the_file(tmp_path, text, message):
    """Also shared secrets and unsigned tokens, which no configuration can allow."""
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path, text)
    assert "access.yaml" in str(caught.value)


def test_what_is_presented():
    """The key or the token, not both, and nothing that a header cannot carry."""
    assert presented({}) == ""
    assert presented({"ATTRITION_API_KEY": " k \n", "ATTRITION_TOKEN": " "}) == "k"
    with pytest.raises(UsageError, match="are both set"):
        presented({"ATTRITION_API_KEY": "k", "ATTRITION_TOKEN": "t"})
    with pytest.raises(UsageError, match="ATTRITION_TOKEN") as caught:
        presented({"ATTRITION_TOKEN": "secret text"})
    assert "secret" not in str(caught.value)


def test_the_header(monkeypatch):
    """From the argument or the environment."""
    monkeypatch.delenv("ATTRITION_TOKEN", raising=False)
    monkeypatch.setenv("ATTRITION_API_KEY", "k")
    assert authorization() == {"authorization": "Bearer k"}
    assert authorization("t") == {"authorization": "Bearer t"}
    assert authorization("") == {}


def test_open_access_is_the_user_whatever_the_variables_say(tmp_path, now):
    """They may be meant for another machine's endpoint."""
    settings = Settings.from_environment({}, home=tmp_path)
    principal = identify(settings, AccessConfig(), now=now, environ={"ATTRITION_API_KEY": "nonsense"})
    assert principal == local_user()
    assert principal.unrestricted


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "set ATTRITION_API_KEY"),
        ({"ATTRITION_API_KEY": "attr_short"}, "has not the form of one"),
        ({"ATTRITION_API_KEY": "attr_0123456789ab_" + 43 * "x"}, "is not known"),
        ({"ATTRITION_TOKEN": "a.b.c"}, "no identity provider is configured"),
    ],
)
def test_closed_access_wants_to_know(tmp_path, now, environ, message):
    """Nobody, nonsense, and a token that nobody can check."""
    settings = Settings.from_environment({}, home=tmp_path, access="closed")
    with pytest.raises(NotAuthenticated, match=message):
        identify(settings, AccessConfig(), now=now, environ=environ)
