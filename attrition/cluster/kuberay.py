"""Ray on Kubernetes: KubeRay's objects, applied, watched and removed through the Kubernetes API.

Works with a kubeconfig and inside a pod. Needs the extra ``kuberay``; what is done needs the same rights as doing it
with ``kubectl``.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from attrition.cluster.ray_objects import (
    RAY_KINDS,
    RayObject,
    assess,
    dump_serve_config,
    parse_serve_config,
    with_live_traffic,
)
from attrition.errors import AccessDenied, ConfigError, Fault, NotFound, PlatformError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from kubernetes.client import ApiException
    from kubernetes.dynamic import DynamicClient

API_VERSION = "ray.io/v1"

MANAGER = "attrition"
"""Field manager of what is applied from manifests."""
TRAFFIC_MANAGER = "attrition-traffic"
"""Field manager of changes to the served traffic."""

SERVE_CONFIG_FIELD = ".spec.serveConfigV2"

_POLL_SECONDS = 2.0
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True, slots=True)
class Applied:
    """An object that was applied."""

    kind: str
    name: str
    namespace: str

    @property
    def ref(self) -> str:
        """Kind and name as ``kubectl`` writes them."""
        return f"{self.kind.lower()}/{self.name}"


class KubeRay:
    """One namespace of a Kubernetes cluster with the KubeRay operator.

    Parameters
    ----------
    client
        Of the Kubernetes API.
    namespace
        Of objects that name none.
    """

    def __init__(self, client: DynamicClient, namespace: str) -> None:
        self._client = client
        self.namespace = namespace

    @classmethod
    def connect(cls, *, namespace: str | None = None, context: str | None = None) -> KubeRay:
        """Connect as ``kubectl`` would: by ``KUBECONFIG`` or ``~/.kube/config``, inside a pod by its service account.

        Parameters
        ----------
        namespace
            None is that of the context, or of the pod.
        context
            Of the kubeconfig; None is its current one.

        Raises
        ------
        ConfigError
            The extra ``kuberay`` is not installed, there is no kubeconfig, or it has no such context.
        PlatformError
            The Kubernetes API does not answer.
        """
        try:
            from kubernetes import client, config, dynamic
        except ImportError as error:
            remedy = "pip install 'attrition[kuberay]'"
            raise ConfigError(Fault("Kubernetes", "the client is not installed", "", remedy)) from error
        in_pod = _NAMESPACE_FILE.is_file() and context is None
        configuration = client.Configuration()
        try:
            if in_pod:
                config.load_incluster_config(client_configuration=configuration)
                own = _NAMESPACE_FILE.read_text(encoding="utf-8").strip()
            else:
                config.load_kube_config(context=context, client_configuration=configuration)
                own = _namespace_of(config.list_kube_config_contexts(), context)
        except config.ConfigException as error:
            # the client names the file and what it lacks
            found = str(error).strip().splitlines()[0][:200]
            raise ConfigError(Fault("kubeconfig", found, "", "set KUBECONFIG, or choose a --context")) from error
        configuration.retries = 1  # a cluster that is down should be reported now
        with _asking(configuration.host):
            return cls(dynamic.DynamicClient(client.ApiClient(configuration)), namespace or own)

    def apply(
        self, documents: Sequence[Mapping[str, Any]], *, force: bool = False, dry_run: bool = False
    ) -> list[Applied]:
        """Apply manifests on the server's side, in their order; a served application keeps its traffic.

        Unknown fields are refused. An object that is there already changes only where the manifest says something.

        Parameters
        ----------
        documents
            Kubernetes objects of any kind.
        force
            Take fields over from other managers; without it a conflict is reported.
        dry_run
            Have the server check everything and store nothing.

        Raises
        ------
        UsageError
            Another manager holds a field.
        ConfigError
            The API server refuses an object; names the fields.
        AccessDenied, PlatformError
            Not permitted there; no answer.
        """
        applied = []
        for document in documents:
            namespace = document["metadata"].get("namespace") or self.namespace
            one = Applied(document["kind"], document["metadata"]["name"], namespace)
            wanted = self._with_live_traffic(document, namespace)
            try:
                self._apply(one, wanted, force=force, dry_run=dry_run)
            except _Conflict as conflict:
                # the configuration that is applied carries the live traffic, so nothing is taken from anybody
                if set(conflict.fields) != {SERVE_CONFIG_FIELD}:
                    raise conflict.error from conflict
                self._apply(one, wanted, force=True, dry_run=dry_run)
            applied.append(one)
        return applied

    def objects(self) -> list[RayObject]:
        """The Ray objects of the namespace: services, clusters, jobs; each by name."""
        found = []
        for kind in RAY_KINDS:
            with _asking(f"{kind} objects in {self.namespace}"):
                items = self._resource(kind).get(namespace=self.namespace).to_dict()["items"]
            # items of a list do not say their kind
            found += sorted((assess({**item, "kind": kind}) for item in items), key=lambda one: one.name)
        return found

    def show(self, kind: str, name: str) -> RayObject:
        """One Ray object.

        Raises
        ------
        NotFound
            There is none.
        """
        return assess(self.read(kind, name))

    def read(self, kind: str, name: str) -> dict[str, Any]:
        """The document of one Ray object; see :meth:`show`."""
        with _asking(f"{kind.lower()}/{name} in {self.namespace}"):
            document: dict[str, Any] = self._resource(kind).get(name=name, namespace=self.namespace).to_dict()
        return document

    def wait(
        self,
        kind: str,
        name: str,
        *,
        timeout_seconds: float,
        on_change: Callable[[RayObject], None] = lambda _one: None,
    ) -> RayObject:
        """Return when a Ray object is ready or has failed; each change of its state is handed on.

        Raises
        ------
        NotFound
            There is none, or it was deleted meanwhile.
        PlatformError
            Neither after the timeout.
        """
        deadline = time.monotonic() + timeout_seconds
        seen: RayObject | None = None
        while True:
            for one in self._changes(kind, name, deadline):
                if one != seen:
                    on_change(one)
                    seen = one
                if one.ready or one.failed:
                    return one
            if time.monotonic() > deadline:
                found = f"is {seen.state if seen else 'unknown'} after {timeout_seconds:.0f} s"
                raise PlatformError(Fault(f"{kind.lower()}/{name}", found, seen.message if seen else ""))

    def delete(self, kind: str, name: str, *, timeout_seconds: float) -> bool:
        """Delete a Ray object with all that belongs to it, and return when it is gone; False when there was none.

        Raises
        ------
        PlatformError
            It is still there after the timeout.
        """
        where = f"{kind.lower()}/{name} in {self.namespace}"
        try:
            with _asking(where):
                self._resource(kind).delete(
                    name=name, namespace=self.namespace, body={"propagationPolicy": "Foreground"}
                )
        except NotFound:
            return False
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            try:
                self.read(kind, name)
            except NotFound:
                return True
            time.sleep(_POLL_SECONDS)
        raise PlatformError(Fault(where, f"is still there after {timeout_seconds:.0f} s", "", "kubectl describe it"))

    def serve_config(self, service: str) -> tuple[dict[str, Any], str]:
        """The Serve configuration of a RayService, and the resource version that it was read at."""
        document = self.read("RayService", service)
        text = document["spec"].get("serveConfigV2") or "applications: []"
        return parse_serve_config(text, f"rayservice/{service}"), document["metadata"]["resourceVersion"]

    def set_serve_config(self, service: str, config: Mapping[str, Any], resource_version: str) -> None:
        """Change nothing but the Serve configuration of a RayService.

        Raises
        ------
        UsageError
            Somebody changed the object since that resource version.
        """
        body = {
            "apiVersion": API_VERSION,
            "kind": "RayService",
            "metadata": {"name": service, "resourceVersion": resource_version},
            "spec": {"serveConfigV2": dump_serve_config(config)},
        }
        with _asking(f"rayservice/{service} in {self.namespace}"):
            self._resource("RayService").patch(
                body=body,
                name=service,
                namespace=self.namespace,
                content_type="application/merge-patch+json",
                field_manager=TRAFFIC_MANAGER,
            )

    def _apply(self, one: Applied, document: Mapping[str, Any], *, force: bool, dry_run: bool) -> None:
        options = {"dry_run": "All"} if dry_run else {}
        with _asking(f"{one.ref} in {one.namespace}"):
            resource = self._resource(one.kind, str(document["apiVersion"]))
            resource.server_side_apply(
                body=dict(document),
                name=one.name,
                namespace=one.namespace if resource.namespaced else None,
                field_manager=MANAGER,
                force_conflicts=force,
                field_validation="Strict",
                **options,
            )

    def _with_live_traffic(self, document: Mapping[str, Any], namespace: str) -> Mapping[str, Any]:
        wanted = document.get("spec", {}).get("serveConfigV2") if document["kind"] == "RayService" else None
        if wanted is None:
            return document
        name = document["metadata"]["name"]
        try:
            live, _ = KubeRay(self._client, namespace).serve_config(name)
        except NotFound:
            return document
        merged = with_live_traffic(parse_serve_config(wanted, f"rayservice/{name}"), live)
        return {**document, "spec": {**document["spec"], "serveConfigV2": dump_serve_config(merged)}}

    def _changes(self, kind: str, name: str, deadline: float) -> Iterator[RayObject]:
        """States of an object until the server ends the watch; the first is that of now."""
        document = self.read(kind, name)
        yield assess(document)
        # watches end by themselves now and then; what was missed meanwhile is in the next first look
        seconds = max(1, min(60, int(deadline - time.monotonic())))
        with _asking(f"{kind.lower()}/{name} in {self.namespace}"):
            events = self._resource(kind).watch(
                namespace=self.namespace,
                name=name,
                resource_version=document["metadata"]["resourceVersion"],
                timeout=seconds,
            )
            for event in events:
                if event["type"] == "DELETED":
                    raise NotFound(Fault(f"{kind.lower()}/{name}", "was deleted meanwhile"))
                yield assess({**event["raw_object"], "kind": kind})

    def _resource(self, kind: str, api_version: str = API_VERSION) -> Any:
        from kubernetes.dynamic.exceptions import ResourceNotFoundError

        try:
            return self._client.resources.get(api_version=api_version, kind=kind)
        except ResourceNotFoundError as error:
            remedy = "install the KubeRay operator and its CRDs" if api_version == API_VERSION else "install its CRD"
            raise PlatformError(Fault(f"{api_version} {kind}", "is unknown to this cluster", "", remedy)) from error


class _Conflict(Exception):
    """Fields that another manager holds."""

    def __init__(self, fields: Iterable[str], error: UsageError) -> None:
        super().__init__(fields)
        self.fields = tuple(fields)
        self.error = error


@contextmanager
def _asking(where: str) -> Iterator[None]:
    """What the Kubernetes client raises, as errors of ours."""
    import urllib3
    from kubernetes.client import ApiException

    try:
        yield
    except ApiException as error:
        raise _explained(where, error) from error
    except urllib3.exceptions.HTTPError as error:
        # the whole text of this error repeats the address several times
        reason = type(getattr(error, "reason", None) or error).__name__
        remedy = "check the kubeconfig's context, and that the cluster runs"
        raise PlatformError(Fault(where, f"the Kubernetes API does not answer ({reason})", "", remedy)) from error


def _explained(where: str, error: ApiException) -> Exception:
    try:
        said = json.loads(error.body or "{}")
    except ValueError:
        said = {}
    message = str(said.get("message") or error.reason or error.status)[:500]
    causes = (said.get("details") or {}).get("causes") or []
    if error.status == 404:
        return NotFound(Fault(where, "does not exist"))
    if error.status in {401, 403}:
        return AccessDenied(Fault(where, f"Kubernetes refuses: {message}", "", "ask for a role that permits it"))
    if error.status == 409:
        fields = [cause.get("field", "?") for cause in causes]
        if not fields:
            return UsageError(Fault(where, "was changed by somebody else meanwhile", "", "look at it, and repeat"))
        faults = [Fault(f"{where} {cause.get('field')}", cause.get("message", ""), "", "--force") for cause in causes]
        return _Conflict(fields, UsageError(faults))
    # an apply with a field that the schema does not have is answered with 500
    if error.status in {400, 422} or "failed to create typed patch object" in message:
        faults = [Fault(f"{where} {cause.get('field', '')}".strip(), cause.get("message", "")) for cause in causes]
        return ConfigError(faults or [Fault(where, message)])
    return PlatformError(Fault(where, f"Kubernetes answers {error.status}: {message}"))


def _namespace_of(contexts: tuple[list[dict[str, Any]], dict[str, Any]], wanted: str | None) -> str:
    every, current = contexts
    chosen = next((each for each in every if each["name"] == wanted), current)
    return str(chosen["context"].get("namespace") or "default")


def read_manifests(text: str, where: str) -> list[dict[str, Any]]:
    """Kubernetes objects of a YAML text, as ``kubectl kustomize`` prints it.

    Raises
    ------
    ConfigError
        It is not YAML, or documents are no Kubernetes objects; all of them are named.
    """
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}, line {mark.line + 1}" if mark else where
        raise ConfigError(Fault(place, "not valid YAML")) from error
    faults = [
        Fault(f"{where}, document {number}", "is no Kubernetes object", "apiVersion, kind and metadata.name are needed")
        for number, document in enumerate(documents, start=1)
        if not _is_object(document)
    ]
    if faults or not documents:
        raise ConfigError(faults or Fault(where, "holds no Kubernetes object"))
    return documents


def _is_object(document: Any) -> bool:
    if not isinstance(document, dict) or not isinstance(document.get("metadata"), dict):
        return False
    return all(
        isinstance(each, str) and each
        for each in (document.get("apiVersion"), document.get("kind"), document["metadata"].get("name"))
    )
