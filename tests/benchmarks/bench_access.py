"""What the access check adds to a request, in microseconds: ``python tests/benchmarks/bench_access.py``."""

from __future__ import annotations

import statistics
import sys
import timeit
from datetime import UTC, datetime

from attrition.governance.access_config import AccessConfig
from attrition.governance.access_keys import make_key
from attrition.serving.access import AccessCheck

N_CALLS, N_ROUNDS = 50_000, 9


def scope(path: str, *headers: tuple[bytes, bytes], method: str = "POST") -> dict:
    """A request as uvicorn hands it over, with the headers that a client and HAProxy add."""
    usual = [
        (b"host", b"127.0.0.1:8000"),
        (b"user-agent", b"python-httpx/0.28.1"),
        (b"accept", b"*/*"),
        (b"accept-encoding", b"gzip, deflate"),
        (b"connection", b"keep-alive"),
        (b"content-type", b"application/json"),
        (b"content-length", b"180"),
    ]
    return {"type": "http", "method": method, "path": path, "root_path": "", "headers": [*usual, *headers]}


def main() -> None:
    """Print the median of each case."""
    made = make_key("portal", "scorer", created_by="lead", now=datetime.now(UTC))
    key = (b"authorization", f"Bearer {made.text}".encode())
    check = AccessCheck(AccessConfig(), lambda: {made.key.id: made.key})
    check.refresh()
    cases = {
        "known key, /v1/predict": scope("/v1/predict", key),
        "known key, /v2/models/.../infer": scope("/v2/models/employee-attrition-classifier/infer", key),
        "probe, /liveness": scope("/liveness", method="GET"),
        "no key": scope("/v1/predict"),
        "wrong key": scope("/v1/predict", (b"authorization", key[1][:-3] + b"xxx")),
    }
    for name, request in cases.items():
        seconds = timeit.repeat(lambda request=request: check.authorise(request), number=N_CALLS, repeat=N_ROUNDS)
        sys.stdout.write(f"{name:34} {1e6 * statistics.median(seconds) / N_CALLS:7.2f} µs" + "\n")


if __name__ == "__main__":
    main()
