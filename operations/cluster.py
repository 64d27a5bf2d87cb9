"""A node's place in the cluster: no new pods while it is changed, and back as it was. Through kubectl, not on the node.

What runs here runs once the operation is executed: a plan and a dry run only say what it will be. A failure is the
wave's, not pyinfra's: the node is then taken back and uncordoned before the wave's gate stops the run. Whatever else
ends the run, `atexit` uncordons what is left, and `deploys/undo.py` does it where even that could not.
"""

from __future__ import annotations

import atexit
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

import gevent.lock
from pyinfra import host, logger
from pyinfra.api.command import FunctionCommand, StringCommand
from pyinfra.api.host import Host
from pyinfra.api.operation import operation

from facts import cluster, snapshot
from facts.cluster import CORDONED, DnsService, Node
from facts.kubectl import Kubectl, KubectlError
from models.refused import Refused
from operations import runs
from operations.wave import Wave, refusal

#: Tries of a change that something else overtook: the kubelet writes to its Node every few seconds.
_TRIES = 5


@dataclass
class _Cordoned:
    """What this process has cordoned and not yet uncordoned: host name to the Node's name, and the way to the API."""

    nodes: dict[str, tuple[str, Kubectl, str]] = field(default_factory=dict)
    watched: bool = False


_cordoned = _Cordoned()
#: Guard and change are one step: two hosts of a wave must not take each other's CoreDNS for the one that stays.
_one_at_a_time = gevent.lock.RLock()


def may_lose(node: str, nodes: Sequence[Node], services: Sequence[DnsService]) -> None:
    """Raise Refused where a node must not be cordoned: it has the last healthy CoreDNS of a node that takes pods.

    + node: the Node's name
    """
    healthy = cluster.serving(services)
    if not any(each["endpoints"] for each in services):
        raise Refused("no DNS service in the API has an endpoint: which node has the last healthy CoreDNS is not known")
    if not healthy:
        raise Refused("no node has a healthy CoreDNS in the API: which one is the last is not known")
    closed = {each["name"] for each in nodes if not each["schedulable"]}
    others = healthy - {node}
    if node in healthy and not others - closed:
        but = f": {', '.join(sorted(others))} cordoned as well" if others else ""
        raise Refused(f"{node} has the last healthy CoreDNS of a node that takes pods{but}")


def preflight(
    kubectl: Kubectl, namespace: str, waves: Sequence[Sequence[Host]], drain: bool = False, rollout: bool = False
) -> list[str]:
    """What stands in the way of the cluster steps, in sentences; empty for nothing. Changes nothing.

    + waves: the hosts that are to be cordoned, by wave; empty where none is
    + drain: whether they are to be drained as well
    + rollout: whether CoreDNS is to be restarted
    """
    try:
        found: list[str] = []
        if rollout and not kubectl.may("patch", "deployments.apps", f"--namespace={namespace}"):
            found.append(f"kubectl on {kubectl.where}: its user may not patch deployments in {namespace}")
        if not any(waves):
            return found
        if not kubectl.may("patch", "nodes"):
            found.append(f"kubectl on {kubectl.where}: its user may not patch nodes")
        if drain and not kubectl.may("create", "pods", "--subresource=eviction", "--all-namespaces"):
            found.append(f"kubectl on {kubectl.where}: its user may not evict pods")
        nodes, services = cluster.nodes(kubectl), cluster.dns_services(kubectl, namespace)
    except KubectlError as error:
        return [str(error)]
    for number, wave in enumerate(waves, 1):
        closing: list[str] = []
        for each in wave:
            try:
                mine = _mine(nodes, each)
                if mine["schedulable"]:
                    # As it will be once the wave's nodes before it are cordoned.
                    others = [one | {"schedulable": one["schedulable"] and one["name"] not in closing} for one in nodes]
                    may_lose(mine["name"], others, services)
                    closing.append(mine["name"])
            except (KubectlError, Refused) as reason:
                found.append(f"wave {number}: {each.name}: {reason}")
    return found


def cordon_patch(run: str, node: Node) -> list[str]:
    """kubectl's arguments that cordon a node and say who did it, in one change that overtakes no other one."""
    patch = {
        "metadata": {"annotations": {CORDONED: run}, "resourceVersion": node["version"]},
        "spec": {"unschedulable": True},
    }
    return _patch(node, patch)


def uncordon_patch(node: Node) -> list[str]:
    """kubectl's arguments that uncordon a node and forget who had cordoned it."""
    patch = {
        "metadata": {"annotations": {CORDONED: None}, "resourceVersion": node["version"]},
        "spec": {"unschedulable": None},
    }
    return _patch(node, patch)


def drain_arguments(node: str, timeout: int) -> list[str]:
    """kubectl's arguments that evict a node's pods. Never --force: a pod that nobody would make again stays."""
    return ["drain", node, "--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={timeout}s"]


@operation()
def cordon(
    wave: Wave,
    kubectl: Kubectl,
    namespace: str = "kube-system",
    drain: bool = False,
    timeout: int = 300,
    run: str = runs.RUN,
) -> Generator[StringCommand | FunctionCommand, None, None]:
    """
    Keep new pods off this node while it is changed; with `drain`, evict the others first.

    + wave: fails for this host where it cannot be done, and then nothing is changed on it
    + kubectl: the way to the cluster's API
    + namespace: where the DNS services are
    + drain: respects PodDisruptionBudgets, leaves DaemonSets' pods, gives up emptyDir volumes
    + timeout: seconds that the drain may take
    + run: the run's id, written to the Node

    The last node with a healthy CoreDNS is refused. A node that somebody else has cordoned stays as it is, before and
    after; with `drain` it is drained all the same.

    **Example:**

    .. code:: python

        cluster.cordon(name="No new pods", wave=wave, kubectl=kubectl, _if=wave.is_open)
    """
    if not host.state.is_executing:
        wanted = [drain_arguments("{}", timeout)] if drain else []
        yield from _plan(kubectl, lambda mine: [cordon_patch(run, mine)] if mine["schedulable"] else [], wanted)
        return
    step = "cordoned"
    try:
        name, did = _cordon(kubectl, namespace, run, drain)
        if drain:
            step = "drained"
            kubectl.run(*drain_arguments(name, timeout), timeout=timeout + 30)
            runs.record(run, host.name, "drained", cluster_node=name)
            did += ["drained"]
    except Refused as reason:
        wave.fail(host.name, f"refused: {reason}")
    except KubectlError as reason:
        wave.fail(host.name, f"not {step}: {reason}")
    if wave.is_unproven():
        yield FunctionCommand(_warn, [wave.failures[host.name]], {})
    elif did:
        yield FunctionCommand(_say, [f"{name}: {', '.join(did)}"], {})
    else:
        _say(f"{name} was cordoned before, and stays so")
        host.noop(f"{name} was cordoned before")


@operation()
def uncordon(
    kubectl: Kubectl, wave: Wave | None = None, run: str = runs.RUN
) -> Generator[StringCommand | FunctionCommand, None, None]:
    """
    Let this node take pods again, if this run has cordoned it.

    + kubectl: the way to the cluster's API
    + wave: fails for this host where it cannot be done; None to fail as an operation
    + run: the run's id, as the Node has it: nobody else's cordon is lifted

    **Example:**

    .. code:: python

        cluster.uncordon(name="Takes pods again", kubectl=kubectl, wave=wave)
    """
    if not host.state.is_executing:
        yield from _plan(
            kubectl,
            # In a wave, a node that takes pods now is going to be cordoned before.
            lambda mine: [uncordon_patch(mine)] if mine["cordoned_by"] == run or wave and mine["schedulable"] else [],
        )
        return
    try:
        node = _uncordon(kubectl, run, _mine(cluster.nodes(kubectl), host)["name"])
    except KubectlError as reason:
        sentence = f"still cordoned: {reason}"
        if wave is None:
            yield refusal(sentence)
        else:
            wave.fail(host.name, "; ".join([*filter(None, [wave.failures.get(host.name)]), sentence]))
            yield FunctionCommand(_warn, [sentence], {})
        return
    _cordoned.nodes.pop(host.name, None)
    if not node:
        host.noop("this run has not cordoned it")
        return
    runs.record(run, host.name, "uncordoned", cluster_node=node)
    yield FunctionCommand(_say, [f"{node}: takes pods again"], {})


def uncordon_the_rest() -> None:
    """Uncordon what this process has cordoned and left so, because the run broke off. Registered with `atexit`."""
    for name, (node, kubectl, run) in list(_cordoned.nodes.items()):
        try:
            if _uncordon(kubectl, run, node):
                runs.record(run, name, "uncordoned", cluster_node=node, because="the run broke off")
                logger.warning(f"{name}: {node} takes pods again: the run broke off")
        except Exception as reason:  # Whatever it is: the last words of this process are what has to be done now.
            logger.error(f"{name}: {node} is still cordoned: {reason}. Type: kubectl uncordon {node}")
        del _cordoned.nodes[name]


def _cordon(kubectl: Kubectl, namespace: str, run: str, drain: bool) -> tuple[str, list[str]]:
    """Cordon the current host: the Node's name, and what was done, in words. Raises KubectlError, Refused."""
    with _one_at_a_time:
        for left in reversed(range(_TRIES)):
            nodes = cluster.nodes(kubectl)
            mine = _mine(nodes, host)
            if mine["schedulable"] or drain:
                may_lose(mine["name"], nodes, cluster.dns_services(kubectl, namespace))
            if not mine["schedulable"]:
                return mine["name"], []
            if not _cordoned.watched:
                atexit.register(uncordon_the_rest)
                _cordoned.watched = True
            # Remembered first: a change that went through while its answer was lost has to be taken back too.
            _cordoned.nodes[host.name] = (mine["name"], kubectl, run)
            try:
                kubectl.run(*cordon_patch(run, mine))
            except KubectlError as error:
                if left and _overtaken(error):
                    continue
                raise
            runs.record(run, host.name, "cordoned", cluster_node=mine["name"])
            return mine["name"], ["takes no new pods"]
    raise AssertionError("the last try returns or raises")


def _uncordon(kubectl: Kubectl, run: str, name: str) -> str:
    """Uncordon a Node if this run has cordoned it; its name, "" where there was nothing to do. Raises KubectlError."""
    for left in reversed(range(_TRIES)):
        mine = next((each for each in cluster.nodes(kubectl) if each["name"] == name), None)
        if mine is None or mine["cordoned_by"] != run:
            return ""
        try:
            kubectl.run(*uncordon_patch(mine))
        except KubectlError as error:
            if left and _overtaken(error):
                continue
            raise
        return name
    raise AssertionError("the last try returns or raises")


def _overtaken(error: KubectlError) -> bool:
    return "(Conflict)" in str(error)


def _mine(nodes: Sequence[Node], of: Host) -> Node:
    """The Node that this host is. Raises KubectlError."""
    # pyinfra's `host` is the same object for whatever host is current: snapshots are kept by the host itself.
    read = snapshot.of(of.state.inventory.get_host(of.name))
    interfaces = read["interfaces"]["value"] if read else []
    return cluster.node_of(nodes, of.name, [each["address"] for one in interfaces for each in one["addresses"]])


def _patch(node: Node, patch: Mapping[str, object]) -> list[str]:
    return ["patch", "node", node["name"], "--type=merge", f"--patch={json.dumps(patch, separators=(',', ':'))}"]


def _plan(
    kubectl: Kubectl, commands: Callable[[Node], list[list[str]]], then: Sequence[Sequence[str]] = ()
) -> Generator[FunctionCommand, None, None]:
    """Say what would be run. All of it first: for its plan, pyinfra stops at the first command of an operation."""
    try:
        mine = _mine(cluster.nodes(kubectl), host)
    except KubectlError as reason:
        _warn(str(reason))
        yield FunctionCommand(_warn, [str(reason)], {})
        return
    planned = [*commands(mine), *([each.format(mine["name"]) for each in one] for one in then)]
    for arguments in planned:
        host.log(kubectl.shown(arguments))
    for arguments in planned:
        yield FunctionCommand(_say, [kubectl.shown(arguments)], {})


def _say(sentence: str) -> None:
    host.log(sentence)


def _warn(sentence: str) -> None:
    host.log_styled(sentence, fg="yellow", log_func=logger.warning)
