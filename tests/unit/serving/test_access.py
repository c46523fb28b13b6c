"""The endpoint with closed access: every route, every kind of caller, revocations and outages."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta

import pytest

from attrition.errors import AccessUnavailable
from attrition.governance.access_config import AccessConfig
from attrition.governance.access_keys import KeyStore, make_key
from attrition.governance.access_tokens import OidcConfig, SigningKey
from attrition.governance.actions import Action
from attrition.governance.audit import AuditLog
from attrition.serving import gateway
from attrition.serving.access import AccessCheck, Denied
from attrition.serving.access_options import AccessOptions, AccessTuning, denial_log
from attrition.serving.gateway import Gateway, Limits
from attrition.serving.pages import Pages
from attrition.serving.permissions import PUBLIC, ROUTES, needed
from attrition.serving.protocols import invocations, outcomes
from attrition.settings import Settings

NOW = 1_777_896_000.0
RECORD = {"age": 40, "projects": 2, "promoted": 1, "department": 7}
OPTIONAL = {("POST", "/v1/explain")}  # where explanations are deployed


class World:
    """A check with keys, a clock and a database that can be down."""

    def __init__(self):
        self.now = NOW
        self.keys = {}
        self.is_down = False
        self.n_reads = 0
        self.denied = []
        self.check = AccessCheck(
            AccessConfig(), self.read, on_denied=lambda *what: self.denied.append(what), clock=lambda: self.now
        )

    def read(self):
        self.n_reads += 1
        if self.is_down:
            raise AccessUnavailable("down.")
        return dict(self.keys)

    def add(self, name, role, seconds=None):
        """Text of a new key; replicas know it after the next refresh."""
        moment = datetime.fromtimestamp(self.now, UTC)
        expires = None if seconds is None else moment + timedelta(seconds=seconds)
        made = make_key(name, role, created_by="x", now=moment, expires_at=expires)
        self.keys[made.key.id] = made.key
        return made

    def ask(self, path="/v1/predict", *, method="POST", key=None, header=None):
        """Status of the check's answer; None when it lets the request through."""
        headers = [(b"host", b"x")]
        if key is not None:
            header = f"Bearer {key.text}".encode()
        if header is not None:
            headers.append((b"authorization", header))
        scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": headers}
        problem = self.check.authorise(scope)
        self.scope = scope
        return problem and problem.status


@pytest.fixture
def world():
    return World()


@pytest.fixture
def closed(endpoint, world):
    """The endpoint of the other tests, closed; a scorer and an auditor have keys."""
    world.scorer, world.auditor = world.add("portal", "scorer"), world.add("ann", "compliance_auditor")
    world.check.refresh()
    endpoint.gateway.access = world.check
    return endpoint


def bearer(made):
    return {"authorization": f"Bearer {made.text}"}


def known_routes(endpoint):
    """Every path and method that the gateway answers: its pages, its protocols, and whatever it documents."""
    pages = Pages(Gateway(Limits(), lambda *_: None)).app
    found = {(method, route.path) for route in pages.routes for method in route.methods}
    found |= {("POST", path) for path in (*gateway.PROTOCOLS, outcomes.PATH, invocations.INVOCATIONS)}
    for path, item in endpoint.request("GET", "/openapi.json").json()["paths"].items():
        concrete = path.replace("employee-attrition-classifier", "{model}")
        found |= {(method.upper(), concrete) for method in item if method in {"get", "post", "put", "delete", "patch"}}
    return found


def test_every_route_has_a_stated_permission(endpoint):
    """Fails when a route is added to the native protocol, the pages, V2 or MLflow's without one."""
    routes = known_routes(endpoint)
    assert len(routes) > 15
    without = {route for route in routes if needed(*route) is None}
    assert without == set()


def test_every_permission_has_a_route(endpoint):
    """A row that nothing answers hides a typo."""
    assert set(ROUTES) - known_routes(endpoint) <= OPTIONAL | {("POST", path) for path in invocations.PINGS}


def test_a_route_that_was_forgotten_is_closed(closed, world):
    """Whoever asks."""
    pages = Pages(closed.gateway)

    async def secret():
        return {}

    pages.app.add_api_route("/v1/secret", secret)
    closed.gateway._pages = pages.app
    for headers in ({}, bearer(world.scorer), bearer(world.auditor)):
        assert closed.request("GET", "/v1/secret", headers=headers).status_code in {401, 404}
    closed.gateway.access = None
    assert closed.request("GET", "/v1/secret").status_code == 200


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_each_route_and_each_role(world, route):
    """Public ones answer everybody; the others 401 without a key, else as the table of roles says."""
    method, path = route
    path = path.replace("{model}", "any").replace("{version}", "1.0.0")
    permission = ROUTES[route]
    if permission == PUBLIC:
        assert world.ask(path, method=method) is None
        return
    assert world.ask(path, method=method) == 401
    policy = AccessConfig().policy
    made = {role: world.add(role, role) for role in policy.roles}
    world.check.refresh()
    for role, key in made.items():
        wanted = None if permission in policy.roles[role].actions else 403
        assert world.ask(path, method=method, key=key) == wanted, role


def test_public_routes_say_nothing_about_persons():
    """The list is short on purpose."""
    assert {path for (_, path), permission in ROUTES.items() if permission == PUBLIC} == {
        "/", "/docs", "/openapi.json", "/liveness", "/readiness", "/ping", "/health", "/version", "/v2",
        "/v2/health/live", "/v2/health/ready", "/v2/models/{model}/ready",
        "/v2/models/{model}/versions/{version}/ready",
    }  # fmt: skip


def test_who_may_gets_an_answer(closed, world):
    """Over every protocol."""
    answer = closed.predict(RECORD, headers=bearer(world.scorer))
    assert (answer.status_code, answer.json()["model_version"]) == (200, "1.0.0")
    assert closed.request("GET", "/v1/versions", headers=bearer(world.auditor)).status_code == 200
    rows = {"dataframe_records": [RECORD]}
    assert closed.request("POST", "/invocations", json=rows, headers=bearer(world.scorer)).status_code == 200


def test_who_does_not_say_who_they_are(closed):
    """401 as a problem document with a challenge; nothing is scored."""
    answer = closed.predict(RECORD)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="attrition"'
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:attrition:problem:unauthenticated"
    assert "Authorization: Bearer" in answer.json()["detail"]


def test_who_may_not(closed, world):
    """403 with the action that is missing."""
    answer = closed.predict(RECORD, headers=bearer(world.auditor))
    assert answer.status_code == 403
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    assert "prediction.score" in answer.json()["detail"]
    assert "compliance_auditor" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/v2/models/m/infer", "/v2/models/m/versions/1.0.0/infer", "/v2/models/m"])
def test_errors_of_the_open_inference_protocol_have_its_form(closed, path):
    """With the same status and challenge."""
    answer = closed.request("GET" if path.endswith("m") else "POST", path, json={})
    assert answer.status_code == 401
    assert list(answer.json()) == ["error"]
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic YTpi",
        b"bearer attr_0123456789ab_short",
        b"Bearer attr_0123456789ab_" + b"x" * 43,
        b"Bearer a.b.c",
        b"Bearer \xff\xfe",
        b"Bearer " + b"x" * 60_000,
    ],
)
def test_nonsense_is_nobody(closed, world, header):
    """401 for each, quickly, and no echo."""
    started = time.process_time()
    assert world.ask(header=header) == 401
    assert time.process_time() - started < 0.1


def test_the_scheme_may_be_written_in_any_case(closed, world):
    """RFC 9110, section 11.1."""
    assert world.ask(header=b"bEaReR  " + world.scorer.text.encode()) is None


def test_methods_and_paths_that_are_not_there(closed, world):
    """Only whoever is known learns what there is."""
    for path, method, status in (
        ("/v1/predict", "GET", 405),
        ("/v1/nothing", "GET", 404),
        ("/v1/predict/", "POST", 404),
    ):
        assert world.ask(path, method=method) == 401
        assert world.ask(path, method=method, key=world.scorer) == status
    assert closed.request("PUT", "/v1/predict", headers=bearer(world.scorer)).headers["allow"] == "POST"


def test_a_path_prefix_is_not_part_of_the_route(closed, world):
    """The application may be mounted anywhere."""
    scope = {"type": "http", "method": "POST", "path": "/hr/v1/predict", "root_path": "/hr", "headers": []}
    assert world.check.authorise(scope).status == 401
    assert world.check.authorise({**scope, "method": "GET", "path": "/hr/liveness"}) is None


def test_the_caller_is_left_in_the_scope(closed, world):
    """For whoever records what was asked."""
    assert world.ask(key=world.scorer) is None
    assert world.scope["principal"] == "portal"


def test_a_revoked_key_ends_with_the_next_refresh(closed, world):
    """Although it was remembered."""
    assert world.ask(key=world.scorer) is None
    key = world.scorer.key
    world.keys[key.id] = type(key)(
        **{name: getattr(key, name) for name in key.__slots__} | {"revoked_at": datetime.now(UTC)}
    )
    assert world.ask(key=world.scorer) is None  # not known here yet
    world.check.refresh()
    assert world.ask(key=world.scorer) == 401


def test_a_key_that_expires_between_two_refreshes(closed, world):
    """Is checked with each request."""
    short = world.add("short", "scorer", seconds=3)
    world.check.refresh()
    assert world.ask(key=short) is None
    world.now += 3
    assert world.ask(key=short) == 401


def test_a_new_key_is_looked_for(closed, world):
    """It is refused first, and the background thread is woken."""
    late = world.add("late", "scorer")
    assert world.ask(key=late) == 401
    assert world.check._wake.is_set()
    world.check.refresh()
    assert world.ask(key=late) is None


def test_the_database_is_down(closed, world, caplog):
    """Known keys go on up to a bound, unknown ones get 503; nothing is opened."""
    assert world.ask(key=world.scorer) is None
    late = world.add("late", "scorer")
    world.is_down = True
    with caplog.at_level(logging.WARNING):
        world.check.refresh()
    assert "down" in caplog.text
    assert world.ask(key=world.scorer) is None
    assert world.ask(key=late) == 503
    assert world.ask() == 401
    world.now += 299
    world.check.refresh()
    assert world.ask(key=world.scorer) is None
    world.now += 1
    for _ in range(2):
        assert world.ask(key=world.scorer) == 503
        world.check.refresh()
    world.is_down = False
    world.check.refresh()
    assert world.ask(key=world.scorer) is None
    assert world.ask(key=late) is None


def test_a_replica_that_starts_without_a_database(world):
    """Answers probes, and 503 with Retry-After to everybody else."""
    made = world.add("portal", "scorer")
    world.is_down = True
    world.check.refresh()
    assert world.ask("/liveness", method="GET") is None
    assert world.ask(key=made) == 503
    world.is_down = False
    world.check.refresh()
    assert world.ask(key=made) is None


def test_the_hot_path_asks_nobody(closed, world):
    """A thousand requests, no reading."""
    before = world.n_reads
    for _ in range(1_000):
        world.ask(key=world.scorer)
    assert world.n_reads == before


def test_what_is_remembered_is_bounded(closed, world, monkeypatch):
    """Whoever may make keys could fill the memory otherwise."""
    monkeypatch.setattr("attrition.serving.access.MAX_REMEMBERED", 10)
    made = [world.add(f"k{i}", "scorer") for i in range(25)]
    world.check.refresh()
    assert all(world.ask(key=key) is None for key in made)
    assert len(world.check._known.verified) <= 10


def test_secrets_are_not_remembered(closed, world):
    """Only their digests."""
    world.ask(key=world.scorer)
    assert world.scorer.text not in repr(world.check._known)


def test_refusals_are_told_in_bundles(closed, world):
    """By the background thread, not by the request."""
    for _ in range(5):
        world.ask(key=world.auditor)
    assert world.denied == []
    world.check._report()
    assert world.denied == [(Denied(world.auditor.key.principal, Action.PREDICT, None), 5)]
    world.check._report()
    assert len(world.denied) == 1


def test_refusals_reach_the_audit_log(tmp_path):
    """With the action that was wanted."""
    url = f"sqlite:///{tmp_path / 'governance.db'}"
    made = make_key("ann", "compliance_auditor", created_by="x", now=datetime.now(UTC))
    denial_log(url)(Denied(made.key.principal, Action.EXPLAIN, "10.0.0.7"), 3)
    denial_log(url)(Denied(None, None, "10.0.0.8"), 2)
    with AuditLog.open(url) as log:
        known, unknown = log.records()
    assert (known.action, known.outcome, known.actor) == ("access.denied", "denied", "ann")
    assert known.details == {"action": "prediction.explain", "times": 3, "via": f"key {made.key.id}"}
    assert (unknown.actor, unknown.details) == ("not authenticated", {"times": 2})
    assert [record.client_address for record in (known, unknown)] == ["10.0.0.7", "10.0.0.8"]


def test_refusals_are_bundled_by_address(world, monkeypatch):
    """Also those of nobody known; from more addresses than the log should take, without their address."""
    monkeypatch.setattr("attrition.serving.access.MAX_BUNDLES", 2)
    world.check.refresh()
    for address in ("10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.3", "10.0.0.4"):
        scope = {"method": "POST", "path": "/v1/predict", "headers": [], "client": (address, 5000)}
        assert world.check.authorise(scope).status == 401
    world.check._report()
    assert {(bundle.principal, bundle.address): times for bundle, times in world.denied} == {
        (None, "10.0.0.1"): 2,
        (None, "10.0.0.2"): 1,
        (None, None): 2,
    }


def test_the_background_thread(world):
    """Reads at the start and goes on; a key is effective, and gone, without anybody's doing."""
    world.check._refresh_seconds = 0.05
    world.check.start()
    try:
        made = world.add("portal", "scorer")
        _until(lambda: world.ask(key=made) is None)
        world.keys = None  # even a bug does not end it
        before = world.n_reads
        _until(lambda: world.n_reads > before + 2)
        world.keys = {}
        _until(lambda: world.ask(key=made) == 401)
    finally:
        world.check.close()
    assert not world.check._thread.is_alive()


def _until(happened, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_openapi_document_says_what_is_needed(closed, endpoint):
    """Each operation, and only where access is closed."""
    document = closed.request("GET", "/openapi.json").json()
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    seen = set()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            permission = needed(method.upper(), path)
            seen.add(permission)
            assert operation["security"] == ([] if permission == PUBLIC else [{"bearer": []}])
            if permission != PUBLIC:
                assert {"401", "403", "503"} <= set(operation["responses"])
                assert permission in operation["description"]
    assert {PUBLIC, Action.PREDICT, Action.MODEL_VIEW} <= seen
    endpoint.gateway.access = None
    assert "security" not in str(endpoint.request("GET", "/openapi.json").json()["paths"]["/v1/predict"])


class TestTokens:
    """Tokens at the endpoint; the provider itself is in ``tests/unit/governance``."""

    @pytest.fixture
    def provider(self, world):
        import jwt
        from cryptography.hazmat.primitives.asymmetric import ec

        world.private = ec.generate_private_key(ec.SECP256R1())
        world.published = {"k1": SigningKey(world.private.public_key(), "EC", "ES256")}
        world.ages = []

        def read(age):
            world.ages.append(age)
            if world.is_down:
                raise AccessUnavailable("down.")
            return dict(world.published)

        def token(kid="k1", **claims):
            now = int(time.time())
            document = {"iss": "i", "aud": "attrition", "sub": "ada", "exp": now + 900, "roles": ["scorer"], **claims}
            return f"Bearer {jwt.encode(document, world.private, algorithm='ES256', headers={'kid': kid})}".encode()

        world.now = time.time()
        oidc = OidcConfig(issuer="i", audience="attrition", key_set="x", algorithms=("ES256",))
        world.check = AccessCheck(AccessConfig(oidc=oidc), world.read, read, clock=lambda: world.now)
        return token

    def test_a_token_is_accepted_by_its_roles(self, world, provider):
        """Like a key."""
        world.check.refresh()
        assert world.ask(header=provider()) is None
        assert world.ask("/v1/versions", method="GET", header=provider(roles=[])) == 403
        assert world.ask(header=provider(aud="payroll")) == 401
        assert world.ask(header=provider(exp=1_600_000_000)) == 401

    def test_it_is_verified_again_after_a_while(self, world, provider):
        """By the keys of then."""
        world.check.refresh()
        token = provider()
        assert world.ask(header=token) is None
        world.published = {}
        world.check.refresh()
        assert world.ask(header=token) is None
        world.now += 301
        assert world.ask(header=token) == 401

    def test_a_key_set_that_was_never_read(self, world, provider):
        """Closes the door to tokens, not to keys."""
        made = world.add("portal", "scorer")
        assert world.ask(header=provider()) == 503
        world.is_down = True
        world.check.refresh()
        assert world.ask(header=provider()) == 503
        world.is_down = False
        world.check.refresh()
        assert world.ask(header=provider()) is None
        assert world.ask(key=made) is None

    def test_an_unknown_signing_key_has_the_set_read_again(self, world, provider):
        """At most twice a minute, whoever asks how often."""
        world.check.refresh()
        for _ in range(100):
            assert world.ask(header=provider(kid="k2")) == 401
        world.check.refresh()
        world.check.refresh()
        assert world.ages == [None, 30.0, None]

    def test_without_a_provider(self, closed, world):
        """A token is refused with the reason."""
        answer = closed.predict(RECORD, headers={"authorization": "Bearer a.b.c"})
        assert (answer.status_code, answer.json()["detail"]) == (401, "Tokens are not accepted here; send an API key")


class TestOptions:
    """From the settings and the serve configuration to the check."""

    @pytest.fixture(autouse=True)
    def _clean(self, monkeypatch, tmp_path):
        for name in ("ATTRITION_ACCESS", "ATTRITION_DATABASE_URL", "ATTRITION_ACCESS_CONFIG"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("ATTRITION_HOME", str(tmp_path))

    def settings(self, tmp_path, **changes):
        return Settings.from_environment({}, home=tmp_path, **changes)

    @pytest.mark.parametrize(
        ("mode", "access", "decided"),
        [(None, "open", "open"), ("open", "open", "open"), ("closed", "open", "closed"),
         (None, "closed", "closed"), ("open", "closed", "closed")],
    )  # fmt: skip
    def test_whoever_says_closed_closes(self, tmp_path, mode, access, decided):
        """The serve configuration or the settings."""
        options = AccessOptions.of(self.settings(tmp_path, access=access), AccessTuning(mode=mode))
        assert options.mode == decided
        assert (options.config is None) == (decided == "open")

    def test_a_replica_whose_environment_says_closed(self, monkeypatch):
        """Is closed, even when nobody configured it so."""
        assert AccessOptions().check() is None
        monkeypatch.setenv("ATTRITION_ACCESS", "closed")
        check = AccessOptions().check()
        assert check is not None
        check.close()

    def test_a_password_does_not_travel(self, tmp_path):
        """It would stand in Ray's dashboard."""
        url = "postgresql://attrition:hidden-word@db/attrition"
        options = AccessOptions.of(self.settings(tmp_path, access="closed", database_url=url))
        assert "hidden-word" not in options.model_dump_json()
        assert options.database_url == ""
        local = AccessOptions.of(self.settings(tmp_path, access="closed"))
        assert local.database_url == f"sqlite:///{tmp_path / 'governance.db'}"

    def test_the_options_survive_the_way_to_a_replica(self, tmp_path):
        """As JSON, the same each time."""
        options = AccessOptions.of(self.settings(tmp_path, access="closed"), AccessTuning(refresh_seconds=2))
        document = options.model_dump(mode="json", exclude_none=True)
        assert AccessOptions.model_validate(document) == options

    def test_a_check_made_from_options(self, tmp_path):
        """Knows the keys of the database."""
        settings = self.settings(tmp_path, access="closed")
        made = make_key("portal", "scorer", created_by="x", now=datetime.now(UTC))
        KeyStore(settings.database_url).add(made.key)
        check = AccessOptions.of(settings).check()
        scope = {"type": "http", "method": "POST", "path": "/v1/predict", "headers": [(b"authorization", b"Bearer x")]}
        assert check.authorise(scope).status == 401
        scope["headers"] = [(b"authorization", f"Bearer {made.text}".encode())]
        assert check.authorise(scope) is None
        check.close()


def test_open_access_needs_no_library_of_it():
    """A replica that checks nobody imports neither SQLAlchemy nor JSON Web Tokens."""
    import subprocess
    import sys

    code = (
        "import sys, attrition.serving.app\n"
        "from attrition.serving.access_options import AccessOptions\n"
        "assert AccessOptions().check() is None\n"
        "print([n for n in ('sqlalchemy', 'jwt', 'cryptography', 'attrition.serving.access') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_open_access_is_not_checked(endpoint):
    """The gateway without a check answers everybody."""
    assert endpoint.gateway.access is None
    assert endpoint.predict(RECORD).status_code == 200
    assert asyncio.iscoroutinefunction(type(endpoint.gateway).__call__)
