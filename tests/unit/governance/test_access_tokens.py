"""Tokens of an identity provider that really publishes its keys: what is accepted, and every way to be refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from attrition.errors import AccessUnavailable, NotAuthenticated, UnknownSigningKey
from attrition.governance.access import Method
from attrition.governance.access_tokens import KeySet, OidcConfig, authenticate_token, parse_key_set, verify_token


@pytest.fixture
def authenticate(provider):
    """Function from a token to the principal, with the key set of the running provider."""
    config, keys = provider.config, KeySet(provider.config)
    return lambda token, **changes: authenticate_token(token, config.model_copy(update=changes), keys)


def segment(document):
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


@pytest.mark.parametrize(("key", "algorithm"), [("rsa", "RS256"), ("ec", "ES256"), ("ed", "EdDSA")])
def test_a_valid_token(provider, authenticate, key, algorithm):
    """Name and roles come from its claims."""
    principal = authenticate(provider.token(key=key, algorithm=algorithm, kid=key))
    assert (principal.name, principal.roles, principal.method) == ("ada", ("ml_lead",), Method.TOKEN)


def test_a_token_made_by_other_means(provider, authenticate):
    """RS256 by hand (RFC 7515, appendix A.2), without the library that reads it."""
    signed = f"{segment({'alg': 'RS256', 'kid': 'rsa'})}.{segment(provider.claims())}"
    signature = provider.keys["rsa"].sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    assert authenticate(f"{signed}.{segment(signature)}").name == "ada"


def test_a_token_without_a_key_id(provider, authenticate):
    """Is fine as long as there is only one key."""
    with pytest.raises(NotAuthenticated, match="does not publish"):
        authenticate(provider.token(kid=None))
    provider.published = {"rsa": "RS256"}
    assert verify_token(provider.token(kid=None), provider.config, KeySet(provider.config).current())[0].name == "ada"


def test_how_long_it_is_valid(provider):
    """With the leeway."""
    expires = int(time.time()) + 100
    keys = KeySet(provider.config).current()
    assert verify_token(provider.token(exp=expires), provider.config, keys)[1] == expires + 10


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"exp": 1_600_000_000}, "token: has expired"),
        ({"exp": None}, "token: lacks the claim exp"),
        ({"aud": "payroll"}, "token: is for another audience; attrition is expected"),
        ({"aud": ["payroll", "crm"]}, "token: is for another audience"),
        ({"aud": None}, "token: lacks the claim aud"),
        ({"iss": "https://evil.example"}, "token: comes from another issuer; https://id.example is expected"),
        ({"iss": "https://id.example/"}, "token: comes from another issuer"),
        ({"iss": None}, "token: lacks the claim iss"),
        ({"nbf": 4_000_000_000}, "token: is not valid yet"),
        ({"iat": 4_000_000_000}, "token: is not valid yet"),
        ({"sub": None}, "token: lacks the claim sub"),
        ({"sub": " "}, "token: lacks the claim sub"),
    ],
)
def test_claims_that_are_refused(provider, authenticate, claims, message):
    """Each for its own reason, and no message repeats the token."""
    token = provider.token(**claims)
    with pytest.raises(NotAuthenticated, match=message) as caught:
        authenticate(token)
    assert token not in str(caught.value)
    assert token.split(".")[2] not in str(caught.value)


def test_an_unsigned_token(provider, authenticate):
    """In every spelling of none, with and without a signature."""
    for algorithm in ("none", "None", "NONE", ""):
        for signature in ("", "AAAA"):
            token = f"{segment({'alg': algorithm, 'kid': 'rsa'})}.{segment(provider.claims())}.{signature}"
            with pytest.raises(NotAuthenticated, match="is not signed"):
                authenticate(token)


def test_the_public_key_as_a_shared_secret(provider, authenticate):
    """The confusion of algorithms of RFC 8725: HS256 with what everybody can read."""
    public = provider.keys["rsa"].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = f"{segment({'alg': 'HS256', 'kid': 'rsa'})}.{segment(provider.claims())}"
    forged = f"{signed}.{segment(hmac.new(pem, signed.encode(), hashlib.sha256).digest())}"
    with pytest.raises(NotAuthenticated, match="is signed by HS256; accepted: RS256, ES256, EdDSA"):
        authenticate(forged)


def test_an_algorithm_for_which_the_key_is_not_meant(provider, authenticate):
    """By its kind, and by what the key set says."""
    with pytest.raises(NotAuthenticated, match="for which its key is not meant"):
        authenticate(provider.token(key="ec", algorithm="ES256", kid="rsa"))
    with pytest.raises(NotAuthenticated, match="for which its key is not meant"):
        authenticate(provider.token(algorithm="RS512"), algorithms=("RS256", "RS512"))


def test_a_signature_by_another_key(provider, authenticate):
    """Of somebody who knows the key's id."""
    provider.keys["other"] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(NotAuthenticated, match="has a signature that does not fit"):
        authenticate(provider.token(key="other"))


def test_changed_claims(provider, authenticate):
    """The signature covers them."""
    header, _, signature = provider.token().split(".")
    changed = f"{header}.{segment(provider.claims(roles=['ml_lead', 'compliance_auditor']))}.{signature}"
    with pytest.raises(NotAuthenticated, match="has a signature that does not fit"):
        authenticate(changed)


@pytest.mark.parametrize(
    "text", ["", "x", "a.b", "a.b.c", "....", "ü.ü.ü", "x" * 20_000, segment({"alg": "RS256"}) + ".e.f"]
)
def test_no_tokens(authenticate, text):
    """Anything else."""
    with pytest.raises(NotAuthenticated):
        authenticate(text)


def test_an_embedded_key_is_not_believed(provider, authenticate):
    """``jwk`` and ``jku`` in the header are the forger's own."""
    mine = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(mine.public_key(), as_dict=True)
    headers = {"kid": "mine", "jwk": jwk, "jku": "https://evil.example/keys"}
    forged = jwt.encode(provider.claims(), mine, algorithm="RS256", headers=headers)
    with pytest.raises(UnknownSigningKey, match="does not publish"):
        authenticate(forged)


def test_the_key_set_is_kept_and_read_again_for_a_new_key(provider, authenticate):
    """One request for many tokens, one more when the provider begins to sign by another key."""
    for _ in range(3):
        authenticate(provider.token())
    assert provider.n_requests == 1
    provider.keys["next"] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    provider.published["next"] = "RS256"
    assert authenticate(provider.token(key="next", kid="next")).name == "ada"
    assert provider.n_requests == 2


def test_a_key_set_that_is_not_reachable(provider, unused_port):
    """Nobody listens, an error, no key set, no usable key: the place is named, nobody gets in."""
    token = provider.token()

    def refused(place):
        config = provider.config.model_copy(update={"key_set": str(place)})
        with pytest.raises(AccessUnavailable) as caught:
            authenticate_token(token, config, KeySet(config))
        assert str(place) in str(caught.value)
        return str(caught.value)

    assert "no connection" in refused(f"http://127.0.0.1:{unused_port}/keys")
    provider.status = 500
    assert "answered 500" in refused(provider.url)
    assert "cannot be read" in refused("/nowhere/keys.json")


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"keys": 3}', b'{"keys": [3]}', b'{"keys": []}', b"\xff"])
def test_no_key_set(text):
    """Whatever else answers at the address."""
    with pytest.raises(AccessUnavailable):
        parse_key_set(text, "x")


def test_keys_that_are_left_out(provider):
    """Shared secrets, keys for encryption, private keys, unknown curves; the others still work."""
    secret = {"kty": "oct", "k": segment(b"s" * 32), "kid": "rsa"}
    known = provider.document()["keys"][0]
    private = jwt.algorithms.RSAAlgorithm.to_jwk(provider.keys["rsa"], as_dict=True)
    odd = {"kty": "EC", "crv": "P-0", "x": "AA", "y": "AA", "kid": "odd"}
    provider.extra = [secret, {**known, "use": "enc", "kid": "enc"}, {**private, "kid": "private"}, odd]
    keys = parse_key_set(json.dumps(provider.document()).encode(), "x")
    assert sorted(keys) == ["ec", "ed", "rsa"]


def test_a_key_set_in_a_file(provider, tmp_path):
    """For clusters that reach no provider."""
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(provider.document()))
    config = provider.config.model_copy(update={"key_set": str(path)})
    assert authenticate_token(provider.token(), config, KeySet(config)).name == "ada"


@pytest.mark.parametrize(
    ("options", "claims", "roles"),
    [
        ({}, {"roles": "scorer"}, ("scorer",)),
        ({}, {"roles": ["a", 3, None, "scorer", "scorer"]}, ("a", "scorer")),
        ({}, {"roles": None}, ()),
        ({}, {"roles": {"scorer": True}}, ()),
        ({"roles": {"Attrition.Lead": "ml_lead"}}, {"roles": ["Attrition.Lead", "scorer"]}, ("ml_lead",)),
        ({"roles_claim": "realm_access.roles"}, {"realm_access": {"roles": ["scorer"]}}, ("scorer",)),
        ({"roles_claim": "https://x.example/roles"}, {"https://x.example/roles": ["scorer"]}, ("scorer",)),
        ({"roles_claim": "a.b"}, {"a": ["b"]}, ()),
    ],
)
def test_where_the_roles_come_from(provider, authenticate, options, claims, roles):
    """A text or a list, by our names or the provider's, at any depth; what is not mapped gives nothing."""
    assert authenticate(provider.token(**claims), **options).roles == roles


def test_the_name_can_come_from_another_claim(provider, authenticate):
    """Such as Entra's ``preferred_username``."""
    token = provider.token(preferred_username="ada@example.org")
    assert authenticate(token, name_claim="preferred_username").name == "ada@example.org"


def test_the_defaults():
    """RS256 alone: what providers use unless told otherwise."""
    assert OidcConfig(issuer="i", audience="a", key_set="k").algorithms == ("RS256",)
