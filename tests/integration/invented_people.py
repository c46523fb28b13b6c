"""People whom the registered versions know the features of, and clients that ask about them all the time."""

from __future__ import annotations

import random
import threading
import time

import httpx
from registered_versions import leaves

N_PEOPLE = 4_000


class People:
    """Invented people, their satisfaction, and who of them leaves."""

    def __init__(self):
        rng = random.Random(11)
        self.satisfaction = [rng.uniform(1, 5) for _ in range(N_PEOPLE)]
        self.left = [leaves(each, rng.random()) for each in self.satisfaction]

    def record(self, number):
        number %= N_PEOPLE
        features = {"tenure": 12, "satisfaction_score": self.satisfaction[number], "department_code": 2}
        return {"employee_id": f"E-{number}", **features}


class Load:
    """Steady requests of several threads while the block runs."""

    def __init__(self, url, people, n_threads=2, pause_seconds=0.002):
        self.url, self.people, self.pause_seconds, self.n_threads = url, people, pause_seconds, n_threads
        self.answers, self.failures = [], []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(n_threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number):
        with httpx.Client(base_url=self.url, timeout=30) as client:
            while not self._stop.wait(self.pause_seconds):
                number += self.n_threads
                try:
                    answer = client.post("/v1/predict", json=self.people.record(number))
                except httpx.TransportError as error:
                    self.failures.append((time.time(), repr(error)))
                    continue
                if answer.is_success:
                    self.answers.append((time.time(), answer.json()["model_version"]))
                else:
                    self.failures.append((time.time(), answer.text))
