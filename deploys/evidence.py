"""Evidence on demand: captures while a hop is asked again, and what the nodes' logs and files tell about the past."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TypedDict, cast

from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.facts import get_fact
from pyinfra.api.host import Host

from checks.captured import Journey, journeys
from checks.diagnosis import Hop
from facts.addresses import of_endpoint
from facts.changes import DAYS
from facts.coredns_logs import of_kubectl
from facts.history import TIMEOUT, History, NodeHistory
from facts.kubectl import Kubectl, KubectlError
from facts.parallel import each
from facts.snapshot import Snapshot
from models import kube_services, node
from models.coredns_log import Complaint, complaints, sentence
from probes.capture import MOST_SECONDS, Answered, Captured
from probes.capture_filter import Point
from probes.points import own_addresses, points
from probes.probe import HOST, Probe, Source, pod, probe
from probes.questions import Asking

#: Nodes that are captured on, hops of each, and tries of each question: enough to see where packets end.
NODES = 10
HOPS = 4
TRIES = 5
#: Lines of each CoreDNS container that kubectl fetches.
LINES = 2000
_PROTOCOLS = ("udp", "tcp")


class Logs(TypedDict):
    """What every CoreDNS complained of, the same in sentences, and what could not be read."""

    complaints: list[Complaint]
    sentences: list[str]
    notes: list[str]


class Captures(TypedDict):
    """How far each question came, what could not be captured, in sentences, and the files that were written."""

    journeys: list[Journey]
    notes: list[str]
    files: list[str]


def histories(hosts: Sequence[Host]) -> dict[str, History | None]:
    """Every host's past by host name, read in parallel, one exec each; None for a host that could not be read."""
    return each(hosts, _history)


def coredns(read: Mapping[str, History | None], cluster: Kubectl | None = None, namespace: str = "kube-system") -> Logs:
    """What the CoreDNS containers have complained of in the last days, as the nodes' files tell.

    + cluster: asked where no node has such a complaint: a CoreDNS may run where nothing is read, None for nobody
    """
    known = {name: history["coredns"] for name, history in read.items() if history is not None}
    groups = {name: reading["value"] for name, reading in known.items()}
    notes = [
        f"{name}: CoreDNS's logs: {reading['state']}: {reading['detail']}"
        for name, reading in known.items()
        if reading["state"] not in ("value", "empty")
    ]
    if cluster and not any(groups.values()):
        try:
            groups[f"kubectl on {cluster.where}"] = of_kubectl(namespace, _logs(cluster, namespace))
        except KubectlError as error:
            notes.append(f"CoreDNS's logs: {error}")
    since = (datetime.now(UTC) - timedelta(days=DAYS)).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = complaints(groups, since)
    return {"complaints": found, "sentences": [sentence(one) for one in found], "notes": notes}


def _logs(cluster: Kubectl, namespace: str) -> str:
    wanted = ("--selector=k8s-app=kube-dns", "--all-containers", "--prefix", "--timestamps")
    bounds = ("--max-log-requests=20", f"--tail={LINES}", f"--since={DAYS * 24}h")
    return cluster.run("logs", f"--namespace={namespace}", *wanted, *bounds)


def _history(host: Host) -> History | None:
    asked = time.time()
    try:
        kwargs = {"_timeout": TIMEOUT}
        said: object = get_fact(host.state, host, NodeHistory, kwargs=kwargs, apply_failed_hosts=False)
    except Exception as error:
        host.log(f"its past could not be read: {error}")
        return None
    if not said:
        return None
    history = cast(History, said)
    history["heard"] = (asked, time.time())
    return history


def check(directory: str) -> None:
    """Make the folder for captures. Raises PyinfraError where none could be kept: before an hour is spent on asking."""
    try:
        _make(Path(directory))
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise PyinfraError(f"capture={directory}: cannot be written: {error.strerror or error}") from error


def _make(directory: Path) -> None:
    """With what is missing above it: `runs/captures` makes `runs`, where journals are kept, too."""
    for folder in (*reversed(directory.parents), directory):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)


def captures(
    hosts: Sequence[Host], fleet: Mapping[str, Snapshot | None], hops: Sequence[Hop], how: Asking, directory: Path
) -> Captures:
    """Ask the hops that lose once more, and capture on their nodes meanwhile; on a node where none loses, its first.

    + hops: all that is known of the queries' way: where packets may go to is taken from those that do not lose, too
    + directory: the pcap files are kept there, readable for their owner only

    One exec per node, all at once.
    """
    found: Captures = {"journeys": [], "notes": [], "files": []}
    try:
        _make(directory)
    except OSError as error:
        found["notes"].append(f"nothing was captured: {directory}: {error.strerror or error}")
        return found
    losing = {hop["node"] for hop in hops if hop["state"] == "loses"}
    asking = sorted((host for host in hosts if fleet.get(host.name)), key=lambda host: host.name not in losing)
    if len(asking) > NODES:
        found["notes"].append(f"captured on {NODES} of {len(asking)} nodes, those that lose first")
        asking = asking[:NODES]
    for said in each(asking, lambda host: _capture(host, fleet, hops, how, directory)).values():
        found["journeys"] += said["journeys"]
        found["notes"] += said["notes"]
        found["files"] += said["files"]
    return found


def _capture(
    host: Host, fleet: Mapping[str, Snapshot | None], hops: Sequence[Hop], how: Asking, directory: Path
) -> Captures:
    snapshot = fleet[host.name]
    assert snapshot is not None, "only nodes that were read are captured on"
    notes: list[str] = []
    probes: list[Probe] = []
    of_hop: dict[int, str] = {}
    for hop in _chosen(host.name, hops):
        source = _source(hop, snapshot)
        if source is None:
            notes.append(f"{host.name}: {hop['source']} is gone: its questions were not captured")
            continue
        for asked in _questions(hop, source, how):
            of_hop[len(probes)] = hop["id"]
            probes.append(asked)
    beyond = _beyond(host.name, probes, fleet, hops)
    at = points(snapshot, probes, [address for address, _ in beyond if not ip_address(address).is_loopback])
    if not probes or not at:
        return {"journeys": [], "notes": notes, "files": []}
    answered = _ask(host, at, probes, [port for _, port in beyond], how.rate)
    if answered is None:
        notes.append(f"{host.name}: nothing was captured: the node did not answer")
    elif answered["missing"]:
        notes.append(f"{host.name}: nothing was captured: tool missing: {answered['missing']}")
    else:
        files: dict[int, str] = {}
        try:
            _keep(host.name, answered, directory, files)
        except OSError as error:
            notes.append(f"{host.name}: packets were not kept: {directory}: {error.strerror or error}")
        found = journeys(host.name, answered, own_addresses(snapshot), files, of_hop)
        return {"journeys": found, "notes": notes, "files": list(files.values())}
    return {"journeys": [], "notes": notes, "files": []}


def _chosen(name: str, hops: Sequence[Hop]) -> list[Hop]:
    mine = [hop for hop in hops if hop["node"] == name and _names(hop)]
    losing = [hop for hop in mine if hop["state"] == "loses"]
    return losing[:HOPS] or mine[:1]


def _names(hop: Hop) -> list[tuple[str, str]]:
    """What the hop was asked, protocol and name; what it loses first."""
    losses = sorted(hop["losses"], key=lambda loss: not loss["lost"])
    return [(loss["protocol"], loss["name"]) for loss in losses if loss["protocol"] in _PROTOCOLS and loss["name"]]


def _questions(hop: Hop, source: Source, how: Asking) -> list[Probe]:
    """One per protocol: the first name that is lost over it, rather one that needs an upstream than version.bind."""
    found = []
    for protocol in _PROTOCOLS:
        names = [name for asked, name in _names(hop) if asked == protocol]
        name = next((name for name in names if name != "version.bind"), names[0] if names else "")
        if name:
            found.append(
                probe(
                    hop["destination"],
                    name,
                    "TXT" if name == "version.bind" else "A",
                    rdclass="CH" if name == "version.bind" else "IN",
                    source=source,
                    protocol="udp" if protocol == "udp" else "tcp",
                    port=hop["port"],
                    tries=min(TRIES, how.tries),
                    deadline_s=how.deadline_s,
                )
            )
    return found


def _source(hop: Hop, snapshot: Snapshot) -> Source | None:
    """ "host", or the pod with the address that ends its name."""
    if hop["source"] == "host":
        return HOST
    address = hop["source"].rpartition(" ")[2]
    asker = next((asker for asker in node.askers(snapshot) if asker.address == address), None)
    return pod(asker.name, asker.pid, address=address) if asker else None


def _beyond(
    name: str, probes: Sequence[Probe], fleet: Mapping[str, Snapshot | None], hops: Sequence[Hop]
) -> dict[tuple[str, int], None]:
    """Where packets may go from here, address and port: real servers behind a service, and what servers here ask."""
    found: dict[tuple[str, int], None] = {}
    for asked in probes:
        for target in sorted(kube_services.targets(name, fleet, {}, asked["destination"], asked["protocol"])):
            address, port = of_endpoint(target)
            if port:
                found[address, port] = None
    for hop in hops:
        if hop["node"] == name and hop["stage"] in ("dnsmasq to upstream", "endpoint to upstream"):
            found[hop["destination"], hop["port"]] = None
    return found


def _ask(host: Host, at: Sequence[Point], probes: Sequence[Probe], ports: Sequence[int], rate: int) -> Answered | None:
    asked = {
        "points": list(at),
        "probes": list(probes),
        "ports": list(ports),
        "rate": rate,
        "_timeout": MOST_SECONDS + 30,
    }
    try:
        said = get_fact(host.state, host, Captured, kwargs=asked, apply_failed_hosts=False)
    except Exception as error:
        host.log(f"could not be captured on: {error}")
        return None
    answered = cast("Answered | None", said)
    # The output names its own captures: it must be the answer to this question.
    if not answered or [capture["point"] for capture in answered["captures"]] != list(at):
        return None
    return answered


def _keep(name: str, answered: Answered, directory: Path, files: dict[int, str]) -> None:
    """Write the captures. Raises OSError; `files` then has those before it, by the number of their point."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for number, capture in enumerate(answered["captures"]):
        if not capture["pcap"]:
            continue
        point = capture["point"]
        inside = "pod" if point["netns"] else ""
        place = "_".join(filter(None, (stamp, name, inside, point["host"], point["interface"])))
        path = directory / (re.sub(r"[^A-Za-z0-9._-]", "-", place) + ".pcap")
        path.touch(mode=0o600)
        path.write_bytes(capture["pcap"])
        files[number] = str(path)
