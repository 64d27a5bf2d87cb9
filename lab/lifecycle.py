"""`up` and `down`: build the lab, wait until everything in it answers, and take all of it away again."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lab import baseline, files, healing, host, image, keys, machine, network, places, plan, state
from lab.host import LabError, say
from lab.kubernetes import binaries
from lab.kubernetes import nodes as cluster
from lab.kubernetes.guests import build_disk
from lab.places import Node
from lab.plan import NodePlan
from lab.state import State

# An emulated machine on a busy one takes its time.
_PATIENCE = 180.0


def up(count: int, *, endpoint_routes: bool = False, kubernetes: bool = False) -> None:
    """Bring the lab up with `count` nodes. Repairs a broken lab by building it again. Raises LabError."""
    host.require_machine(guests=kubernetes)
    if kubernetes and endpoint_routes:
        raise LabError("the Kubernetes lab has no endpoint routes: leave one of the two options out")
    try:
        nodes = plan.plan_nodes(count)
    except ValueError as error:
        raise LabError(str(error)) from error
    if not kubernetes:
        host.require_inotify(count)
    with host.locked(host.state_dir()):
        found = state.load()
        if found is not None and _complete(found):
            if found.nodes != count:
                raise LabError(f"a lab with {found.nodes} nodes is up; run `python -m lab down` first")
            if bool(found.programs) != kubernetes:
                raise LabError(
                    f"a lab {'with' if found.programs else 'without'} Kubernetes is up; run `python -m lab down` first"
                )
            say(f"already up: {count} nodes")
            return
        if found is not None:
            say("the recorded lab is not complete: building it again")
        _remove(found)
        try:
            # What takes minutes, and a network, comes before anything that is to be taken down again.
            programs = binaries.ensure() if kubernetes else None
            if programs:
                build_disk(programs)
            record = State(nodes=len(nodes), root=str(image.ensure()), programs=str(programs or ""), guests=kubernetes)
            _build(record, nodes, endpoint_routes)
        except BaseException:
            # The consoles are what one wants to read after a failure, so only what runs is ended.
            machine.stop(state.load())
            network.destroy()
            raise


def down() -> bool:
    """End the lab and remove everything of it. Returns False if there was nothing."""
    host.require_machine()
    existed = host.state_dir().is_dir() and any(host.state_dir().iterdir())
    with host.locked(host.state_dir()):
        try:
            found = state.load()
        except LabError:
            found = None
        _remove(found)
    if not host.state_dir().is_mount():
        host.state_dir().rmdir()
    return existed


def status() -> dict[str, Any]:
    """What is recorded and what of it lives, for `status --json`. Touches nothing."""
    found = state.load()
    nodes = []
    for each in plan.plan_nodes(found.nodes) if found else ():
        record = found.machines.get(each.name) if found else None
        nodes.append(
            {
                "name": each.name,
                "alive": record is not None and record.alive(),
                "pid": record.leader.pid if record and record.leader else None,
                "address": each.address,
                "vip": each.vip,
                "management": each.management,
                "pod_cidr": each.pod_cidr,
                "pods": {pod.name: pod.address for pod in each.pods},
                "faults": found.faults.get(each.name, []) if found else [],
            }
        )
    ssh = {"user": plan.SSH_USER, "key": str(keys.client_key()), "known_hosts": str(keys.known_hosts())}
    return {
        "up": found is not None and _complete(found),
        "directory": str(host.state_dir()),
        "ssh": ssh,
        "kubernetes": cluster.access(found) if found and found.programs else None,
        "nodes": nodes,
    }


def _complete(found: State) -> bool:
    return found.ready and all(each.alive() for each in found.machines.values())


def _remove(found: State | None) -> None:
    machine.stop(found)
    network.destroy()
    for entry in host.state_dir().iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _build(record: State, nodes: tuple[NodePlan, ...], endpoint_routes: bool) -> None:
    record.save()
    keys.make(nodes)
    say("keys made")
    network.build(nodes, guests=record.guests)
    say(f"network: {len(nodes)} nodes, router and resolvers, one bare-metal client, {plan.MANAGEMENT_LINK}")
    files.write_outside(machine.prepare(network.OUTSIDE))
    resolvers = " & ".join(f"unbound -d -p -c /etc/unbound/{each.name}.conf" for each in plan.RESOLVERS)
    machine.start(record, network.OUTSIDE, command=["/bin/sh", "-c", f"{resolvers} & wait"])
    if record.programs:
        cluster.start(record, nodes)
    else:
        for node in nodes:
            upper = machine.prepare(node.name)
            files.write_node(node, upper, endpoint_routes=endpoint_routes)
            keys.install(node, upper)
            machine.start(record, node.name)
    say("machines started")
    with ThreadPoolExecutor(len(nodes)) as pool:
        for done in [pool.submit(_wait_for_node, record, node) for node in nodes]:
            done.result()
    if not record.guests:
        network.connect_nodes(nodes)
    _wait("bare-metal client", lambda: _lan_trouble(record, nodes))
    for node in () if record.guests else nodes:
        baseline.keep(node.name)
    record.ready = True
    record.save()
    say(f"up: {len(nodes)} nodes; `python -m lab ssh node-0`, `pyinfra inventory ...`")


def _wait_for_node(record: State, each: NodePlan) -> None:
    node = places.node(record, each)
    _wait(f"{node.name}: ssh", lambda: _ssh_trouble(node))
    _wait(f"{node.name}: dnsmasq", lambda: "" if node.active("dnsmasq.service") else "dnsmasq.service is not active")
    if record.programs:
        _wait(f"{node.name}: pods answered by the cluster's DNS", lambda: cluster.trouble(record, each))
    else:
        _wait(f"{node.name}: host, pods and resolvers answered", lambda: healing.trouble(node))


def _wait(subject: str, trouble: Callable[[], str]) -> None:
    """Wait until `trouble` returns an empty sentence. Raises LabError with the last one."""
    deadline = time.monotonic() + _PATIENCE

    def still() -> str:
        try:
            return trouble()
        except LabError as error:
            return str(error)

    while text := still():
        if time.monotonic() > deadline:
            raise LabError(f"{subject}: {text} (after {_PATIENCE:.0f} s)")
        time.sleep(0.05)
    say(subject)


def _ssh_trouble(node: Node) -> str:
    try:
        with socket.create_connection((node.plan.management, 22), timeout=1) as connection:
            connection.settimeout(5)
            return "" if connection.recv(4) == b"SSH-" else "sshd sends no banner"
    except OSError as error:
        return str(error)


def _lan_trouble(record: State, nodes: tuple[NodePlan, ...]) -> str:
    client = places.bare_metal(record)
    for node in nodes:
        for tcp in (False, True):
            answer = client.ask(node.vip, tcp=tcp)
            if not answer.good:
                return f"{node.vip} over {'TCP' if tcp else 'UDP'}: {answer}"
    return ""
