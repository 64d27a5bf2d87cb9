"""Interfaces and addresses, as recorded and on a real namespace."""

import subprocess
from collections.abc import Callable

from facts.interfaces import Interface, Interfaces
from facts.iproute import SHOW, objects

Sample = Callable[[str], list[str]]


def named(interfaces: list[Interface], name: str) -> Interface:
    return next(interface for interface in interfaces if interface["name"] == name)


def test_addresses_with_their_labels(sample: Sample) -> None:
    bond0 = named(Interfaces().read(sample("interfaces.txt")), "bond0")
    assert bond0 == {
        "name": "bond0",
        "index": 3,
        "kind": "veth",
        "state": "up",
        "mtu": 1500,
        "master": "",
        "peer": 2,
        "addresses": [
            {"family": 4, "address": "172.25.4.10", "prefix": 24, "label": "bond0", "scope": "global"} | SETTLED,
            {"family": 4, "address": "172.25.4.1", "prefix": 24, "label": "bond0:1", "scope": "global"} | SETTLED,
            {"family": 6, "address": "fd25::2", "prefix": 64, "label": "bond0", "scope": "global"}
            | {"deprecated": True, "tentative": False},
            {"family": 6, "address": "fd25::1", "prefix": 64, "label": "bond0", "scope": "global"} | SETTLED,
            {"family": 6, "address": "fe80::b4a4:93ff:fef6:6c47", "prefix": 64, "label": "bond0", "scope": "link"}
            | SETTLED,
        ],
    }


SETTLED = {"deprecated": False, "tentative": False}


def test_kinds_and_states(sample: Sample) -> None:
    interfaces = Interfaces().read(sample("interfaces.txt"))
    assert {i["name"]: (i["kind"], i["state"], i["master"]) for i in interfaces} == {
        "lo": ("loopback", "up", ""),
        "lanpeer": ("veth", "up", ""),
        "bond0": ("veth", "up", ""),
        "br0": ("bridge", "no carrier", ""),
        "v1": ("veth", "down", ""),
        "v0": ("veth", "down", "br0"),
        "cilium_net": ("veth", "up", ""),
        "cilium_host": ("veth", "up", ""),
        "vx": ("vxlan", "up", ""),
    }


def test_a_peer_in_another_namespace_is_known_by_its_index(sample: Sample) -> None:
    assert named(Interfaces().read(sample("interfaces-with-pod.txt")), "lxc1")["peer"] == 4


def test_a_tentative_address(sample: Sample) -> None:
    address = named(Interfaces().read(sample("interfaces-with-pod.txt")), "lxc1")["addresses"][0]
    assert (address["tentative"], address["deprecated"]) == (True, False)


def test_a_real_namespace(namespace: Callable[[str], int]) -> None:
    pid = namespace(
        "ip link add cilium_net type veth peer name cilium_host\n"
        "ip link set cilium_net up; ip link set cilium_host up\n"
        "ip addr add 172.26.2.58/32 dev cilium_host\n"
        "ip addr add 172.25.4.1/24 dev cilium_host label cilium_host:1"
    )
    fact = Interfaces()
    answer = subprocess.run(
        ["nsenter", "-t", str(pid), "-n", "sh", "-c", fact.command()], capture_output=True, text=True, check=True
    )
    reading = fact.process(answer.stdout.splitlines())
    assert (reading["state"], reading["detail"]) == ("value", "")
    cilium_host = named(reading["value"], "cilium_host")
    assert [(a["address"], a["label"]) for a in cilium_host["addresses"] if a["family"] == 4] == [
        ("172.26.2.58", "cilium_host"),
        ("172.25.4.1", "cilium_host:1"),
    ]
    assert cilium_host["peer"] == named(reading["value"], "cilium_net")["index"]
    assert cilium_host["kind"] == "veth"


def test_an_answer_that_was_cut_gives_its_complete_objects() -> None:
    assert objects('[{"a":1},{},{"b":[{"c":2}]},{"d":') == [{"a": 1}, {"b": [{"c": 2}]}]
    assert objects("[]") == objects("[ ]") == objects("") == []


def test_a_cut_is_told_on_standard_error() -> None:
    script = f"""{SHOW}\nshow 20 echo '[{{"dst":"10.0.0.1"}},{{"dst":"10.0.0.2"}}]'"""
    shown = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert objects(shown.stdout.strip()) == [{"dst": "10.0.0.1"}]
    assert shown.stderr.startswith("truncated: 20 of 39 bytes of echo")


def test_an_answer_that_is_no_json_is_a_failure() -> None:
    fact = Interfaces()
    reading = fact.reading({"output": ["2: eth0 inet 10.0.0.1/8"], "errors": [], "code": 0})
    assert (reading["state"], reading["value"]) == ("failed", [])
