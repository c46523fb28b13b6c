"""Whatever is sent, a closed endpoint lets through only a valid key for what its role permits."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from attrition.governance.access import Principal, RolePolicy
from attrition.governance.access_config import AccessConfig
from attrition.governance.access_keys import make_key, parse_key
from attrition.governance.actions import Action
from attrition.serving.access import AccessCheck
from attrition.serving.permissions import PUBLIC, ROUTES, needed

POLICY = RolePolicy.default()
KEYS = {role: make_key(role, role, created_by="x", now=datetime.now(UTC)) for role in POLICY.roles}

paths = st.sampled_from([path for _, path in ROUTES]) | st.text(max_size=40).map("/".__add__)
methods = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "get", ""])
genuine = st.sampled_from(list(KEYS.values())).map(lambda made: f"Bearer {made.text}".encode())


@st.composite
def nearly(draw):
    """A header with a genuine key, one byte of it changed, cut or doubled."""
    header = bytearray(draw(genuine))
    place = draw(st.integers(7, len(header) - 1))
    change = draw(st.sampled_from(["change", "cut", "double"]))
    if change == "change":
        header[place] ^= draw(st.integers(1, 255))
    elif change == "cut":
        del header[place]
    else:
        header.insert(place, header[place])
    return bytes(header)


def make_check():
    now = datetime.now(UTC).timestamp()  # it stands still: what was read does not grow old while other tests run
    check = AccessCheck(AccessConfig(), lambda: {made.key.id: made.key for made in KEYS.values()}, clock=lambda: now)
    check.refresh()
    return check


CHECK = make_check()


def ask(method, path, header):
    headers = [] if header is None else [(b"authorization", header)]
    return CHECK.authorise({"type": "http", "method": method, "path": path, "root_path": "", "headers": headers})


@given(methods, paths, st.none() | st.binary(max_size=200) | nearly())
def test_without_a_valid_key_only_public_routes_answer(method, path, header):
    """No spelling of a path or method, no header, no damaged key opens anything else; and nothing raises."""
    valid = {f"Bearer {made.text}".encode() for made in KEYS.values()}
    stripped = None if header is None else b"Bearer " + header[7:].strip()
    if stripped in valid:  # blanks around a key are no part of it
        return
    problem = ask(method, path, header)
    assert (problem is None) == (needed(method, path) == PUBLIC)
    assert problem is None or problem.status == 401
    assert problem is None or all(parse_key(made.text)[1].encode() not in problem.body for made in KEYS.values())


@given(methods, paths, st.sampled_from(list(KEYS)))
def test_with_a_key_exactly_the_permitted_routes_answer(method, path, role):
    """As the table of roles says; what is not in the table of routes never does."""
    problem = ask(method, path, f"Bearer {KEYS[role].text}".encode())
    permission = needed(method, path)
    permitted = permission == PUBLIC or (permission is not None and permission in POLICY.roles[role].actions)
    assert (problem is None) == permitted
    assert problem is None or problem.status in {403, 404, 405}


@given(st.lists(st.sampled_from(list(POLICY.roles))), st.sampled_from(list(Action)))
def test_roles_only_add(roles, action):
    """A further role never takes anything away, and the order of roles is irrelevant."""
    alone = any(action in POLICY.roles[role].actions for role in roles)
    assert POLICY.permits(Principal("x", tuple(roles)), action) == alone
    assert POLICY.permits(Principal("x", tuple(reversed(roles))), action) == alone
