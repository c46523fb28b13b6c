"""Who reaches whom, decided from the policies as Kubernetes does: nobody, but for the conversations listed here."""

from __future__ import annotations

import ipaddress
import itertools

import pytest
from manifests import of_kind, overlay, pods

OPERATOR, PROMETHEUS, AZURE_AGENT, STRANGER = "kuberay-system", "monitoring", "kube-system", "default"
"""Namespaces from which somebody comes."""


@pytest.fixture(scope="module")
def everything():
    """Production, with a search beside it."""
    return [*overlay("production"), *overlay("production/tuning")]


@pytest.fixture(scope="module")
def policies(everything):
    """The NetworkPolicies."""
    return of_kind(everything, "NetworkPolicy")


@pytest.fixture(scope="module")
def by_name(everything):
    """Pods by a short name."""
    known = {
        "RayService attrition head": "head",
        "RayService attrition workers": "worker",
        "RayJob attrition-tuning head": "tuning head",
        "RayJob attrition-tuning spot": "tuning worker",
        "RayJob attrition-tuning submitter": "submitter",
        "Deployment attrition-mlflow": "mlflow",
        "StatefulSet attrition-redis": "redis",
        "CronJob attrition-drift": "schedule",
    }
    found = {known[pod.where]: pod for pod in pods(everything) if pod.where in known}
    assert found.keys() == set(known.values())
    return found


def selects(selector, labels):
    """Whether a label selector, of the form used here, selects labels; the empty one selects everything."""
    assert selector.keys() <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


def is_peer(peer, who):
    """Whether `who` (labels in our namespace, a namespace's name, or an address) is a peer of a rule."""
    if isinstance(who, ipaddress.IPv4Address):
        if "ipBlock" not in peer:
            return False
        block = peer["ipBlock"]
        return who in ipaddress.ip_network(block["cidr"]) and not any(
            who in ipaddress.ip_network(each) for each in block.get("except", [])
        )
    if "ipBlock" in peer:
        return False
    if isinstance(who, str):
        return "namespaceSelector" in peer and selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": who})
    return "namespaceSelector" not in peer and selects(peer["podSelector"], who)


def passes(policies, direction, labels, who, port, ports):
    """Whether the policies of a pod let a connection in or out; `ports` are numbers by the target's names."""
    peers = {"Ingress": "from", "Egress": "to"}[direction]
    of_pod = [
        p["spec"]
        for p in policies
        if direction in p["spec"]["policyTypes"] and selects(p["spec"]["podSelector"], labels)
    ]
    if not of_pod:
        return True
    for rule in itertools.chain.from_iterable(spec.get(direction.lower(), []) for spec in of_pod):
        allowed = [each["port"] for each in rule.get("ports", [])]
        numbers = {ports.get(each, each) for each in allowed}
        if (not allowed or port in numbers) and any(is_peer(peer, who) for peer in rule[peers]):
            return True
    return False


def reaches(policies, source, target, port):
    """Whether pod `source` can connect to pod `target` at a port: it may go out, and it may come in."""
    return passes(policies, "Egress", source.labels, target.labels, port, target.ports) and passes(
        policies, "Ingress", target.labels, source.labels, port, target.ports
    )


REPLICA, GRPC, WORKER_PORT = 30_500, 45_000, 10_500
INSIDE = (6379, 8265, 8000, 8080, REPLICA, GRPC, WORKER_PORT, 52365)
SERVING, TUNING = {"head", "worker"}, {"tuning head", "tuning worker"}

CONVERSATIONS = {
    *itertools.product(SERVING, SERVING, INSIDE),
    *itertools.product(TUNING, TUNING, INSIDE),
    *itertools.product(SERVING | TUNING, ["mlflow"], [5000]),
    ("head", "redis", 6379),
    *itertools.product(["schedule", "submitter"], ["head", "tuning head"], [8265]),
}
"""Every connection between pods that is possible, of those tried."""


def test_only_the_listed_conversations_are_possible(policies, by_name):
    """Each pair of pods, at each interesting port."""
    tried = (6379, 8265, 8000, 8080, 5000, REPLICA, GRPC, WORKER_PORT, 52365, 8404, 9101, 10001)
    possible = {
        (a, b, port)
        for (a, source), (b, target) in itertools.product(by_name.items(), repeat=2)
        for port in tried
        if reaches(policies, source, target, port)
    }
    assert {each for each in possible if not is_inside(each)} == {each for each in CONVERSATIONS if not is_inside(each)}
    assert possible >= CONVERSATIONS


def is_inside(conversation):
    """Whether both ends are of the same Ray cluster, in which everything is open."""
    return {*conversation[:2]} <= SERVING or {*conversation[:2]} <= TUNING


def comes_in(policies, pod, who, port):
    return passes(policies, "Ingress", pod.labels, who, port, pod.ports)


def goes_out(policies, pod, who, port):
    return passes(policies, "Egress", pod.labels, who, port, {})


def test_requests_come_from_the_gateway_alone(policies, by_name):
    """To HAProxy of the workers; never to a replica's own ports, the dashboard or MLflow."""
    gateway, elsewhere = ipaddress.ip_address("10.40.17.9"), ipaddress.ip_address("203.0.113.5")
    ports = (8000, 8265, 6379, 5000, 8080, REPLICA, GRPC, 8404, 9101)
    let_in = {
        (name, str(who), port)
        for name, pod in by_name.items()
        for who in (gateway, elsewhere)
        for port in ports
        if comes_in(policies, pod, who, port)
    }
    assert let_in == {("worker", str(gateway), 8000)}


def test_other_namespaces_get_what_they_come_for(policies, by_name):
    """The operator its dashboard and health checks, Prometheus its metrics, a stranger nothing."""
    ports = (8000, 8265, 6379, 5000, 8080, 44217, 44227, REPLICA, GRPC, 10001)
    let_in = {
        (who, name, port)
        for name, pod in by_name.items()
        for who in (OPERATOR, PROMETHEUS, AZURE_AGENT, STRANGER)
        for port in ports
        if comes_in(policies, pod, who, port)
    }
    metrics = {
        *itertools.product(("head", "tuning head"), (8080, 44217, 44227)),
        *itertools.product(("worker", "tuning worker"), (8080,)),
    }
    assert {each[1:] for each in let_in if each[0] == PROMETHEUS} == metrics
    assert {each[1:] for each in let_in if each[0] == AZURE_AGENT} == metrics
    assert {each[1:] for each in let_in if each[0] == OPERATOR} == {
        ("head", 8265),
        ("head", 8000),
        ("worker", 8000),
        ("tuning head", 8265),
    }
    assert not any(each[0] == STRANGER for each in let_in)


def test_pods_go_out_where_they_must(policies, by_name):
    """PostgreSQL and storage by private endpoints, Azure's public addresses by TLS; Redis and schedules nowhere."""
    endpoint, azure, private = (ipaddress.ip_address(each) for each in ("10.40.16.4", "20.190.151.7", "10.99.0.1"))
    ports = (443, 5432, 80, 6379, 22)
    goes = {
        (name, str(who), port)
        for name, pod in by_name.items()
        for who in (endpoint, azure, private)
        for port in ports
        if goes_out(policies, pod, who, port)
    }
    outwards = ("head", "worker", "tuning head", "tuning worker", "mlflow")
    assert goes == {
        (name, *each) for name in outwards for each in ((str(endpoint), 443), (str(endpoint), 5432), (str(azure), 443))
    }


def test_everybody_may_ask_for_names(policies, by_name):
    """Or nothing would find anything."""
    (rule,) = next(p["spec"]["egress"] for p in policies if p["metadata"]["name"] == "names")
    assert {(each["port"], each["protocol"]) for each in rule["ports"]} == {(53, "UDP"), (53, "TCP")}
    (peer,) = rule["to"]
    assert peer["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}}
    assert selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": "kube-system"})


def test_every_policy_selects_somebody(policies, everything):
    """A label that was renamed would leave a policy without pods; named ports are ports of the pods."""
    for policy in policies:
        selected = [pod for pod in pods(everything) if selects(policy["spec"]["podSelector"], pod.labels)]
        assert selected, policy["metadata"]["name"]
        for rule in policy["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                if isinstance(port["port"], str):
                    assert any(port["port"] in pod.ports for pod in selected), policy["metadata"]["name"]
