"""The lab's nodes are what the incident's were: addresses, data path, resolvers, and the way to them."""

from __future__ import annotations

import json

import pytest

from lab import host, plan
from lab.api import Lab
from lab.plan import RESOLVERS

pytestmark = pytest.mark.lab


def test_a_pods_question_arrives_on_cilium_host(lab: Lab) -> None:
    node = lab.node("node-0")
    client = node.pod("client")
    route = json.loads(node.run(["ip", "-json", "route", "get", client.address]).stdout)
    assert route[0]["dev"] == "cilium_host"
    # Links do not count what tc hands them; a rule in the input hook sees the ingress interface that dnsmasq sees.
    rules = "\n".join(
        f'iifname "{name}" meta l4proto {{ tcp, udp }} th dport 53 counter' for name in ("cilium_host", "lxc*")
    )
    node.run(
        ["nft", "-f", "-"],
        stdin=f"table ip seen {{ chain input {{ type filter hook input priority -10; {rules}\n}}\n}}",
    )
    try:
        for tcp in (False, True):
            assert client.ask(node.plan.vip, tcp=tcp).good
        listing = json.loads(node.run(["nft", "--json", "list", "table", "ip", "seen"]).stdout)["nftables"]
    finally:
        node.run(["nft", "delete", "table", "ip", "seen"])
    rule_parts = [part for entry in listing for part in entry.get("rule", {}).get("expr", [])]
    on_cilium_host, on_lxc = (part["counter"]["packets"] for part in rule_parts if "counter" in part)
    assert on_cilium_host >= 2
    assert on_lxc == 0


def test_lxc_links_have_no_ipv4_address(lab: Lab) -> None:
    node = lab.node("node-0")
    addresses = {
        link["ifname"]: link["addr_info"] for link in json.loads(node.run(["ip", "-json", "-4", "address"]).stdout)
    }
    assert not any(name.startswith("lxc") for name in addresses)
    assert [info["local"] for info in addresses["bond0"]] == ["172.25.4.10", "172.25.4.1"]
    assert [(info["local"], info["prefixlen"]) for info in addresses["cilium_host"]] == [("172.26.2.58", 32)]


@pytest.mark.parametrize("resolver", RESOLVERS, ids=lambda resolver: resolver.name)
@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_each_domain_has_its_resolver(lab: Lab, resolver: plan.Resolver, tcp: bool) -> None:
    node = lab.node("node-1")
    assert node.ask("127.0.0.53", resolver.sample, tcp=tcp).addresses == (resolver.answer,)
    assert node.ask(resolver.address, resolver.sample, tcp=tcp).addresses == (resolver.answer,)
    others = [other for other in RESOLVERS if other not in (resolver, RESOLVERS[-1])]
    for other in others:
        assert node.ask(other.address, resolver.sample, tcp=tcp).status == "REFUSED"


def test_every_node_is_reached_from_the_lan_and_from_foreign_pods(lab: Lab) -> None:
    for node in lab.nodes:
        assert lab.bare_metal.ask(node.plan.vip).good
        assert lab.bare_metal.ask(node.plan.vip, tcp=True).good
        for other in lab.nodes:
            assert other.pod("client").run(["ping", "-c1", "-W1", node.plan.vip]).returncode == 0


def test_pods_have_processes_and_a_resolv_conf_of_their_own(lab: Lab) -> None:
    node = lab.node("node-2")
    assert "nameserver 172.26.4.53\n" in node.pod("client").run(["cat", "/etc/resolv.conf"]).stdout
    assert "nameserver 127.0.0.53\n" in node.run(["cat", "/etc/resolv.conf"]).stdout
    inside = node.run(["sh", "-c", "readlink /proc/$(systemctl show -P MainPID pod-client)/ns/net"]).stdout
    assert inside != node.run(["readlink", "/proc/1/ns/net"]).stdout


def test_ssh_is_strict_and_sudo_asks_nothing(lab: Lab) -> None:
    ssh = ["ssh", "-F", str(lab.ssh_config), "-o", "BatchMode=yes"]
    assert host.run([*ssh, "node-1", "id -un; sudo -n id -un"]).stdout.split() == ["ops", "root"]
    wrong = host.run([*ssh, "-o", "HostKeyAlias=node-0", "node-1", "true"], check=False)
    assert wrong.returncode == 255
    assert "Host key verification failed" in wrong.stderr


def test_ssh_listens_on_the_management_link_only(lab: Lab) -> None:
    listeners = lab.node("node-0").run(["ss", "-Hltn", "sport = :22"]).stdout.split()
    assert "198.18.53.10:22" in listeners
    assert not [word for word in listeners if word.endswith(":22") and word != "198.18.53.10:22"]
