"""The lab's network namespaces and the links between them.

    machine --dnsmend0-- [lan: br-mgmt] --mgmt0-- node-N        ssh only
    node-N --bond0-- [lan: br-lan] --bond0-- [outside: router and resolvers], [client: bare metal]

A namespace is kept by a bind mount of its file below the state directory (ip-netns(8) does the same below
/run/netns, which belongs to the machine). No NAT, no route to the machine's own network.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from lab import host, plan
from lab.plan import NodePlan

LAN, OUTSIDE, CLIENT = "lan", "outside", "client"


def namespace(name: str) -> Path:
    """The file that keeps the namespace `name`."""
    return host.state_dir() / "ns" / name


def enter(name: str) -> list[str]:
    """The words that run a command of the machine inside the namespace `name`."""
    return ["nsenter", f"--net={namespace(name)}"]


def build(nodes: Iterable[NodePlan], *, guests: bool = False) -> None:
    """Make every namespace and link, with addresses and routes, all up.

    With `guests` the nodes are virtual machines: they get tap links, and set their own ends up.
    """
    nodes = tuple(nodes)
    host.require_free_range()
    for name in (LAN, OUTSIDE, CLIENT, *(() if guests else (node.name for node in nodes))):
        _make_namespace(name)
    _lan(nodes, guests)
    _outside(nodes)
    _client()
    for node in () if guests else nodes:
        _ip(node.name, "\n".join(node_lines(node)))
    _management()


def tap(link: str, name: str) -> str:
    """Name of the tap link of the virtual machine `name` on the bridge br-`link`."""
    return f"{link}-{name}"


def join(name: str, lan_address: str, management_address: str) -> None:
    """Make one more namespace, `name`, with an address on the LAN and one on the management network."""
    _make_namespace(name)
    lines = []
    for prefix, link in (("lan", "bond0"), ("mgmt", "mgmt0")):
        lines.append(f"link add {prefix}-{name} type veth peer name {link} netns {namespace(name)}")
        lines.append(f"link set {prefix}-{name} master br-{prefix} up")
    _ip(LAN, "\n".join(lines))
    lines = [f"address add {lan_address}/{plan.LAN_PREFIX_LENGTH} dev bond0", "link set bond0 up"]
    lines += [f"address add {management_address}/24 dev mgmt0", "link set mgmt0 up"]
    _ip(name, "\n".join(lines))


def destroy() -> None:
    """Remove every namespace and the machine's link, whatever state they are in. Does nothing if there are none."""
    files = sorted((host.state_dir() / "ns").glob("*"))
    if files and host.has_link(plan.MANAGEMENT_LINK):
        host.run(["ip", "link", "delete", plan.MANAGEMENT_LINK], check=False)
    for file in files:
        # A crash may have stacked mounts, or left a plain file.
        while str(file) in _mount_points():
            host.run(["umount", str(file)])
        file.unlink()
    if files:
        # The kernel takes namespaces apart in the background; the link's name must be free when this returns.
        deadline = time.monotonic() + 5
        while host.has_link(plan.MANAGEMENT_LINK) and time.monotonic() < deadline:
            time.sleep(0.02)


def _mount_points() -> set[str]:
    text = Path("/proc/self/mountinfo").read_text()
    return {line.split()[4] for line in text.splitlines()}


def _make_namespace(name: str) -> None:
    file = namespace(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(exist_ok=False)
    host.run(["unshare", f"--net={file}", "true"])
    # Per namespace, and never taken from the machine's own settings.
    settings = {
        "net/ipv4/ip_forward": 0 if name == CLIENT else 1,
        "net/ipv4/conf/all/rp_filter": 0,
        "net/ipv4/conf/default/rp_filter": 0,
        "net/ipv4/conf/all/send_redirects": 0,
        "net/ipv4/conf/default/send_redirects": 0,
    }
    script = "\n".join(f"echo {value} >/proc/sys/{key}" for key, value in settings.items())
    host.run([*enter(name), "sh", "-ec", script])
    _ip(name, "link set lo up")


def _ip(name: str, commands: str) -> None:
    """Run `ip` commands, one per line, inside the namespace `name`."""
    host.run([*enter(name), "ip", "-batch", "-"], stdin=commands + "\n")


def _lan(nodes: tuple[NodePlan, ...], guests: bool) -> None:
    lines = ["link add br-lan type bridge mcast_snooping 0", "link add br-mgmt type bridge mcast_snooping 0"]
    lines += ["link set br-lan up", "link set br-mgmt up"]
    ports = [("br-lan", "lan", OUTSIDE, "bond0"), ("br-lan", "lan", CLIENT, "bond0")]
    for node in () if guests else nodes:
        ports += [("br-lan", "lan", node.name, "bond0"), ("br-mgmt", "mgmt", node.name, "mgmt0")]
    for node in nodes if guests else ():
        for prefix in ("lan", "mgmt"):
            port = tap(prefix, node.name)
            lines += [f"tuntap add dev {port} mode tap", f"link set {port} master br-{prefix} up"]
    for bridge, prefix, owner, link in ports:
        port = f"{prefix}-{owner}"
        lines.append(f"link add {port} type veth peer name {link} netns {namespace(owner)}")
        lines.append(f"link set {port} master {bridge} up")
    _ip(LAN, "\n".join(lines))


def _outside(nodes: tuple[NodePlan, ...]) -> None:
    lines = [f"address add {plan.ROUTER}/{plan.LAN_PREFIX_LENGTH} dev bond0", "link set bond0 up"]
    lines += [f"address add {resolver.address}/32 dev lo" for resolver in plan.RESOLVERS]
    lines += [f"route add {node.pod_cidr} via {node.address}" for node in nodes]
    _ip(OUTSIDE, "\n".join(lines))


def _client() -> None:
    lines = [f"address add {plan.BARE_METAL}/{plan.LAN_PREFIX_LENGTH} dev bond0", "link set bond0 up"]
    _ip(CLIENT, "\n".join([*lines, f"route add default via {plan.ROUTER}"]))


def node_lines(node: NodePlan) -> list[str]:
    """What makes the network of `node`, in the words of ip(8)."""
    length = plan.LAN_PREFIX_LENGTH
    return [
        f"address add {node.address}/{length} dev bond0",
        f"address add {node.vip}/{length} dev bond0",
        f"address add {node.management}/24 dev mgmt0",
        "link set bond0 up",
        "link set mgmt0 up",
        f"route add default via {plan.ROUTER} dev bond0",
    ]


def routes_to_others(node: NodePlan, nodes: Iterable[NodePlan]) -> list[str]:
    """The routes of `node` to the pods of the others, in the words of ip(8): native routing, source addresses kept."""
    return [
        f"route replace {other.pod_cidr} via {other.address} dev bond0" for other in nodes if other.name != node.name
    ]


def connect_nodes(nodes: Iterable[NodePlan]) -> None:
    """Add each node's routes to the others' pods."""
    nodes = tuple(nodes)
    for node in nodes:
        _ip(node.name, "\n".join(routes_to_others(node, nodes)))


def _management() -> None:
    # No IPv6 on the machine's end: nothing of the lab's shall be announced to it.
    lines = [
        f"link add mgmt-machine type veth peer name {plan.MANAGEMENT_LINK} netns {os.getpid()}",
        "link set mgmt-machine master br-mgmt up",
    ]
    _ip(LAN, "\n".join(lines))
    host.run(["ip", "link", "set", plan.MANAGEMENT_LINK, "addrgenmode", "none"])
    host.run(["ip", "address", "add", f"{plan.MANAGEMENT_MACHINE}/24", "dev", plan.MANAGEMENT_LINK])
    host.run(["ip", "link", "set", plan.MANAGEMENT_LINK, "up"])
