"""What keeps watch in the cluster: objects with our label, as they are wanted, and CoreDNS's pods on different nodes.

Through kubectl, for one host of a run: they are the cluster's. Whatever is to be applied is first tried by the API
server itself (`--dry-run=server`), which also tells whether anything would change.
"""

from __future__ import annotations

import base64
import json
import shlex
import tempfile
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from pyinfra import host
from pyinfra.api.command import FunctionCommand, StringCommand
from pyinfra.api.facts import get_fact
from pyinfra.api.operation import operation

from facts.cluster import LABEL
from facts.kubectl import REQUEST, Kubectl, KubectlAnswer, KubectlError, sentence
from operations import cluster_files, runs
from operations.cluster_files import CILIUM_KIND, KINDS, OURS, Manifest, Served, Spread
from operations.wave import refusal

_THEIRS = OURS.replace("=", "!=")
#: Who owns our fields in the API server's eyes.
_MANAGER = "dnsmend"
_APPLY = ("apply", "--server-side", f"--field-manager={_MANAGER}", "--filename=-", "--output=json")
#: On a Deployment that we have patched: how.
_SPREAD = "dnsmend/spread"
#: What the API server writes by itself.
_ITS_OWN = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")


def served(kubectl: Kubectl) -> Served:
    """What the API server takes. Raises KubectlError."""
    versions = set(kubectl.run("api-versions").split())
    batch = json.loads(kubectl.run("get", "--raw", "/apis/batch/v1"))["resources"]
    return Served(
        "batch/v1" if any(each["name"] == "cronjobs" for each in batch) else "batch/v1beta1",
        "policy/v1" if "policy/v1" in versions else "policy/v1beta1",
        "cilium.io/v2" in versions,
    )


def servers(kubectl: Kubectl) -> list[tuple[str, int]]:
    """The API server's addresses and ports: its service's, and those behind it. Raises KubectlError."""
    found = kubectl.get("services,endpoints", "--namespace=default", "--field-selector=metadata.name=kubernetes")
    ends: list[tuple[str, int]] = []
    for each in found["items"]:
        if each["kind"] == "Service":
            ends += [(each["spec"]["clusterIP"], port["port"]) for port in each["spec"]["ports"]]
        for subset in each.get("subsets") or ():
            ends += [(one["ip"], port["port"]) for one in subset.get("addresses") or () for port in subset["ports"]]
    return ends


def other_budgets(kubectl: Kubectl, namespace: str) -> list[str]:
    """Budgets of others for CoreDNS's pods: with two on a pod every eviction fails. Raises KubectlError."""
    found = kubectl.get("poddisruptionbudgets.policy", f"--namespace={namespace}", f"--selector={_THEIRS}")["items"]
    pods = [each["spec"]["template"]["metadata"]["labels"] for each in _deployments(kubectl, namespace, None)]
    key, _, value = LABEL.partition("=")
    return [
        each["metadata"]["name"]
        for each in found
        if any(covers(each["spec"].get("selector") or {}, labels) for labels in pods or [{key: value}])
    ]


def covers(selector: Manifest, labels: Mapping[str, str]) -> bool:
    """Whether a budget's selector may take pods with these labels; expressions are not worked out, and may."""
    return all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())


@operation()
def applied(
    kubectl: Kubectl, namespace: str, wanted: Sequence[Manifest], run: str = runs.RUN
) -> Generator[StringCommand | FunctionCommand, None, None]:
    """
    The objects with our label are these, and no others.

    + kubectl: the way to the cluster's API
    + namespace: where they are
    + wanted: what is to be there; empty to remove all of ours
    + run: the run's id, for the journal

    An object of the same name without our label is a refusal, before anything is changed; so is what the API server
    refuses, a field that somebody else has set since (a conflict) among it.

    **Example:**

    .. code:: python

        cluster_objects.applied(name="What watches DNS", kubectl=kubectl, namespace="kube-system", wanted=objects)
    """
    try:
        live = _ours(kubectl, namespace)
        changed = [each for each in wanted if _differs(kubectl, each, live)]
    except KubectlError as reason:
        yield refusal(f"refused: {reason}")
        return
    gone = [name for name in live if name not in {_name(each) for each in wanted}]
    said = [f"{'~' if _name(each) in live else '+'} {_name(each)}" for each in changed] + [f"- {name}" for name in gone]
    if not said:
        host.noop(f"{len(wanted)} objects are as they should be in {namespace}")
        return
    if host.state.is_executing:
        try:
            for each in changed:
                feed(kubectl, each, *_APPLY)
            for name in gone:
                kubectl.run("delete", name, f"--namespace={namespace}", "--ignore-not-found", timeout=60)
        except KubectlError as reason:
            yield refusal(str(reason))
            return
        runs.record(run, host.name, "applied", namespace=namespace, objects=said)
    yield from _told(said)


@operation()
def spread(
    kubectl: Kubectl, namespace: str, how: Spread | None, workload: str | None = None, run: str = runs.RUN
) -> Generator[StringCommand | FunctionCommand, None, None]:
    """
    Keep CoreDNS's pods on different nodes, as far as there are any.

    + kubectl: the way to the cluster's API
    + namespace: where CoreDNS is
    + how: "topology" (a topology spread constraint), "anti-affinity", or None to take back what was done
    + workload: "deployment.apps/coredns"; None for the Deployment that is labelled k8s-app=kube-dns there
    + run: the run's id, for the journal

    Changing it replaces CoreDNS's pods one after the other. A Deployment that somebody else has spread is left alone; a
    DaemonSet is spread by itself.

    **Example:**

    .. code:: python

        cluster_objects.spread(name="CoreDNS is on two nodes", kubectl=kubectl, namespace="kube-system", how="topology")
    """
    try:
        found = _deployments(kubectl, namespace, workload)
        said: list[str] = []
        for live in found:
            was = (live["metadata"].get("annotations") or {}).get(_SPREAD)
            pods = live["spec"]["template"]["spec"]
            if not was and (not how or pods.get("topologySpreadConstraints") or _apart(pods)):
                continue
            patch = json.dumps(cluster_files.spread(how, was if was != how else None), separators=(",", ":"))
            name = f"deployment.apps/{live['metadata']['name']}"
            arguments = ["patch", name, f"--namespace={namespace}", "--type=strategic", f"--patch={patch}"]
            if _bare(json.loads(kubectl.run(*arguments, "--dry-run=server", "--output=json"))) == _bare(live):
                continue
            if host.state.is_executing:
                kubectl.run(*arguments)
                runs.record(run, host.name, "patched", what=name, namespace=namespace, spread=how)
            said.append(f"~ {name}: {f'spread by {how}' if how else 'not spread any more'}")
    except KubectlError as reason:
        yield refusal(f"refused: {reason}")
        return
    if said:
        yield from _told(said)
    else:
        host.noop("CoreDNS's pods are as they should be, or somebody else has spread them")


def _ours(kubectl: Kubectl, namespace: str) -> dict[str, Manifest]:
    """Our objects that are there, by "kind/name"."""
    kinds = ",".join([*KINDS, *([CILIUM_KIND] if served(kubectl).cilium else [])])
    found = kubectl.get(kinds, f"--namespace={namespace}", f"--selector={OURS}")["items"]
    return {_name(each): each for each in found}


def _differs(kubectl: Kubectl, wanted: Manifest, ours: Mapping[str, Manifest]) -> bool:
    """Whether the API server would change something. Raises KubectlError, also where the object is somebody else's."""
    name = _name(wanted)
    if name not in ours:
        place = f"--namespace={wanted['metadata']['namespace']}"
        if kubectl.run("get", name, place, "--ignore-not-found", "--output=name").strip():
            raise KubectlError(f"{name} is there already in {wanted['metadata']['namespace']}, and is not dnsmend's")
    try:
        tried = json.loads(feed(kubectl, wanted, *_APPLY, "--dry-run=server"))
    except KubectlError as error:
        # kubectl ends with where that is explained, and not with what it is.
        if "#conflicts" in str(error):
            raise KubectlError(f"{name}: somebody else has set fields of it since dnsmend applied it") from error
        raise KubectlError(f"{name}: {error}") from error
    return name not in ours or _bare(tried) != _bare(ours[name])


def feed(kubectl: Kubectl, manifest: Manifest, *arguments: str) -> str:
    """Run kubectl with an object as its input; what it prints. Raises KubectlError.

    + arguments: `--filename=-` among them
    """
    text = json.dumps(manifest)
    if kubectl.host is None:
        with tempfile.NamedTemporaryFile("w", suffix=".json", prefix="dnsmend-") as file:
            file.write(text)
            file.flush()
            return kubectl.run(*(each.replace("--filename=-", f"--filename={file.name}") for each in arguments))
    packed = base64.b64encode(text.encode()).decode()
    script = f"printf %s {packed} | base64 -d | {shlex.join(kubectl.argv(arguments))}"
    limit = 2 * REQUEST
    reading = get_fact(kubectl.host.state, kubectl.host, KubectlAnswer, kwargs={"script": script, "limit": limit})
    if not reading or reading["state"] not in ("value", "empty"):
        raise KubectlError(sentence(reading["detail"] if reading else "", kubectl.where))
    return str(reading["value"])


def _deployments(kubectl: Kubectl, namespace: str, workload: str | None) -> list[Manifest]:
    place = f"--namespace={namespace}"
    if workload:
        found = kubectl.get(workload, place)
        return [found] if found["kind"] == "Deployment" else []
    return list(kubectl.get("deployments.apps", place, f"--selector={LABEL}")["items"])


def _apart(pods: Manifest) -> Any:
    return (pods.get("affinity") or {}).get("podAntiAffinity")


def _name(manifest: Manifest) -> str:
    """As kubectl takes it: "cronjob.batch/dnsmend-probe", whatever the version."""
    group = manifest["apiVersion"].rpartition("/")[0]
    kind = manifest["kind"].lower()
    return f"{kind}{f'.{group}' if group else ''}/{manifest['metadata']['name']}"


def _bare(manifest: Manifest) -> Manifest:
    """Without what the API server writes by itself."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in _ITS_OWN}
    rest = {key: value for key, value in manifest.items() if key not in ("metadata", "status")}
    return {**rest, "metadata": metadata}


def _told(lines: Sequence[str]) -> Generator[FunctionCommand, None, None]:
    # A plan takes no more than the first command.
    for line in lines if not host.state.is_executing else ():
        host.log(line)
    for line in lines:
        yield FunctionCommand(_say, [line], {})


def _say(line: str) -> None:
    host.log(line)
