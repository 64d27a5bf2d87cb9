"""The cluster's lock: a Lease (coordination.k8s.io/v1) in the DNS namespace, for as long as a run changes its nodes.

Written with the resourceVersion that was read, so that of two runs the API server lets one through. It stays when it is
released, without a holder, as those of Kubernetes' own controllers do.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from facts.kubectl import Kubectl, KubectlError
from operations import runs
from operations.cluster_files import OURS
from operations.cluster_objects import feed

NAME = "dnsmend"
_KIND = "lease.coordination.k8s.io"
#: Tries of a change that something else overtook.
_TRIES = 5


class Taken(Exception):
    """Another run holds the cluster; the message says who, since when and until when."""


def take(kubectl: Kubectl, namespace: str, run: str, by: str, ttl: int) -> str:
    """Take the Lease, or renew it. Returns whose it was, in a sentence, where it had run out; "" otherwise.

    + by: who this is; ttl: seconds for which it is good

    Raises Taken where another run holds it, KubectlError.
    """
    for _ in range(_TRIES):
        live, now = _read(kubectl, namespace), datetime.now(UTC)
        spec = live["spec"] if live else {}
        holder = spec.get("holderIdentity") or ""
        mine = holder.startswith(f"{run} ")
        if holder and not mine and _until(spec) > now:
            until = _until(spec).strftime("%Y-%m-%dT%H:%M:%SZ")
            said = f"run {holder} holds it since {spec.get('acquireTime')}, until {until} unless it renews that"
            raise Taken(f"{runs.printable(said)} (lease {namespace}/{NAME})")
        stamp = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        wanted: dict[str, Any] = {
            "holderIdentity": f"{run} of {by}",
            "leaseDurationSeconds": ttl,
            "acquireTime": spec.get("acquireTime") if mine else stamp,
            "renewTime": stamp,
            "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (0 if mine or not live else 1),
        }
        try:
            _write(kubectl, namespace, live, wanted)
        except KubectlError as error:
            if "(Conflict)" in str(error) or "(AlreadyExists)" in str(error):
                continue
            raise
        was = runs.printable(f"the cluster's Lease of run {holder} had run out, and is taken over")
        return was if holder and not mine else ""
    raise KubectlError(f"lease {namespace}/{NAME}: something else changes it all the time")


def release(kubectl: Kubectl, namespace: str, run: str) -> None:
    """Let go of the Lease if this run holds it. Raises KubectlError."""
    for _ in range(_TRIES):
        live = _read(kubectl, namespace)
        if not live or not (live["spec"].get("holderIdentity") or "").startswith(f"{run} "):
            return
        try:
            _write(kubectl, namespace, live, {"holderIdentity": None, "acquireTime": None, "renewTime": None})
        except KubectlError as error:
            if "(Conflict)" in str(error):
                continue
            raise
        return
    raise KubectlError(f"lease {namespace}/{NAME}: something else changes it all the time")


def _read(kubectl: Kubectl, namespace: str) -> dict[str, Any] | None:
    said = kubectl.run("get", _KIND, NAME, f"--namespace={namespace}", "--ignore-not-found", "--output=json")
    if not said.strip():
        return None
    try:
        found: dict[str, Any] = json.loads(said)
        return {"version": found["metadata"]["resourceVersion"], "spec": found.get("spec") or {}}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise KubectlError(f"lease {namespace}/{NAME} is not understood: {error}") from error


def _write(kubectl: Kubectl, namespace: str, live: dict[str, Any] | None, spec: dict[str, Any]) -> None:
    if live is None:
        key, _, value = OURS.partition("=")
        metadata = {"name": NAME, "namespace": namespace, "labels": {key: value}}
        manifest = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        feed(kubectl, manifest, "create", "--filename=-", "--output=name")
        return
    patch = json.dumps({"metadata": {"resourceVersion": live["version"]}, "spec": spec}, separators=(",", ":"))
    kubectl.run("patch", _KIND, NAME, f"--namespace={namespace}", "--type=merge", f"--patch={patch}")


def _until(spec: dict[str, Any]) -> datetime:
    """When it runs out; long ago for what is not understood, which nobody renews."""
    text = re.sub(r"(\.\d{6})\d*", r"\1", str(spec.get("renewTime") or "")).replace("Z", "+00:00")
    try:
        renewed = datetime.fromisoformat(text)
        renewed = renewed if renewed.tzinfo else renewed.replace(tzinfo=UTC)
        return renewed + timedelta(seconds=float(spec.get("leaseDurationSeconds") or 0))
    except (ValueError, TypeError, OverflowError):
        return datetime.fromtimestamp(0, UTC)
