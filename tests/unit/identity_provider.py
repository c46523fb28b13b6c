"""An identity provider in this process, for the fixture ``provider``."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from attrition.governance.access_tokens import OidcConfig

ALGORITHMS = {
    "RS": jwt.algorithms.RSAAlgorithm,
    "PS": jwt.algorithms.RSAAlgorithm,
    "ES": jwt.algorithms.ECAlgorithm,
    "Ed": jwt.algorithms.OKPAlgorithm,
}


class Provider:
    """An identity provider: signing keys, and a web server that publishes the public ones."""

    def __init__(self):
        self.keys = {
            "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
            "ec": ec.generate_private_key(ec.SECP256R1()),
            "ed": ed25519.Ed25519PrivateKey.generate(),
        }
        self.published = {"rsa": "RS256", "ec": "ES256", "ed": "EdDSA"}
        self.n_requests = 0
        self.status = 200
        self.extra = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}/keys"

    @property
    def config(self):
        return OidcConfig(
            issuer="https://id.example",
            audience="attrition",
            key_set=self.url,
            algorithms=("RS256", "ES256", "EdDSA"),
            leeway_seconds=10,
        )

    def document(self):
        """The key set."""
        keys = []
        for name, algorithm in self.published.items():
            document = ALGORITHMS[algorithm[:2]].to_jwk(self.keys[name].public_key(), as_dict=True)
            keys.append({**document, "kid": name, "alg": algorithm, "use": "sig"})
        return {"keys": [*self.extra, *keys]}

    def claims(self, **changes):
        """Claims of a valid token; None takes one away."""
        now = int(time.time())
        claims = {
            "iss": "https://id.example",
            "aud": "attrition",
            "sub": "ada",
            "iat": now,
            "exp": now + 300,
            "roles": ["ml_lead"],
        }
        return {name: value for name, value in {**claims, **changes}.items() if value is not None}

    def token(self, *, key="rsa", algorithm="RS256", kid="rsa", **changes):
        """A signed token."""
        headers = {} if kid is None else {"kid": kid}
        return jwt.encode(self.claims(**changes), self.keys[key], algorithm=algorithm, headers=headers)

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self):
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                provider.n_requests += 1
                body = json.dumps(provider.document()).encode()
                self.send_response(provider.status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                """Say nothing."""

        return Handler
