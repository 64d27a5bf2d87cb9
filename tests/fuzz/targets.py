"""What is fuzzed: every reader of something that a node, a server, a cluster or a file of somebody else's says.

A target takes bytes, and raises where a reader does what it must not: any exception but its own kind of refusal, a
value that is not of its declared type or no JSON. Its seeds are recorded outputs. `tests/fuzz/test_targets.py` runs all
of them briefly, `python -m tests.fuzz.run` (atheris) for long.
"""

from __future__ import annotations

import json
import random
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args

import dns.message
import dns.rrset
from pyinfra.api.exceptions import FactProcessError, InventoryError, PyinfraError
from typing_extensions import override

from deploys import bundle
from deploys.shape import misfit
from facts import cluster, counters, history, snapshot
from facts.coredns_logs import of_kubectl
from facts.guards import Guards
from facts.kernel import LegacyPreflight
from facts.kubectl import Kubectl, KubectlError
from facts.netfilter import Save
from facts.provision import Provision
from facts.reading import NodeFact, Reading, section_name, sections
from facts.routes import RouteTo
from facts.sysctl_files import SysctlFiles
from inventories import ansible_ini, ansible_ssh, ansible_vars, ansible_yaml
from inventories import kubectl as kubectl_inventory
from inventories.ansible_tree import flatten
from models import coredns_log, corefile, packets, pcap
from probes import blast, wire
from probes.capture import Captured
from probes.dns import Answers
from probes.probe import Probe, Result, probe
from reports import redaction
from reports.pseudonyms import Pseudonyms
from tests.checks import kube_fleet

SEEDS = Path(__file__).parent / "seeds"
SAMPLES = Path(__file__).parent.parent / "facts" / "samples"
INVENTORIES = Path(__file__).parent.parent / "inventories" / "samples"
API = Path(__file__).parent.parent / "fixtures" / "kubernetes" / "api"


class Target(NamedTuple):
    """`run` raises for a finding."""

    run: Callable[[bytes], None]
    seeds: list[bytes]


def lines(data: bytes) -> list[str]:
    """Bytes as a fact gets them: `facts.bounded` has decoded them."""
    return data.decode("utf-8", "replace").split("\n")


def good(value: Any, kind: Any) -> None:
    """Raise unless the value is of the type, and JSON."""
    json.dumps(value, allow_nan=False)
    problem = misfit(value, kind)
    assert not problem, problem


# --- facts


def value_type(fact: NodeFact[Any]) -> Any:
    """What a fact says that its value is."""
    base = next(base for base in type(fact).__orig_bases__ if get_args(base))  # type: ignore[attr-defined]
    return get_args(base)[0]


def _fact(fact: NodeFact[Any], *seeds: Iterable[str]) -> Target:
    kind: Any = Reading[value_type(fact)]  # type: ignore[misc]

    def run(data: bytes) -> None:
        good(fact.reading({"output": lines(data), "errors": [], "code": 0}), kind)

    recorded = recorded_sections().get(section_name(fact))
    found = [recorded, *map(list, seeds)] if recorded else [*map(list, seeds)]
    return Target(run, ["\n".join(one).encode() for one in found] or [b""])


@cache
def recorded_sections() -> dict[str, list[str]]:
    """The sections of a node of the lab, by the names of their facts."""
    text = "".join((SEEDS / name).read_text() for name in ("snapshot.txt", "history.txt"))
    return {name: section["output"] for name, section in sections(text.split("\n")).items()}


def _whole(fact: Any, kind: Any, *seeds: str) -> Target:
    """A node's whole answer, cut at its delimiters."""

    def run(data: bytes) -> None:
        good(fact.process(lines(data)), kind)

    return Target(run, [(SEEDS / seed).read_bytes() for seed in seeds])


def _saves() -> list[str]:
    """A save of iptables-legacy as the node's own awk condenses it."""
    return [
        "save legacy 4",
        "registered nat",
        *kube_fleet._by_awk("\n".join(kube_fleet.lines("incident-iptables-legacy.txt"))),
    ]


def _base64(*texts: str) -> str:
    return b64encode("\n".join(texts).encode()).decode()


def _sample(name: str) -> list[str]:
    return (SAMPLES / name).read_text().splitlines()[1:]


_KUBERNETES: dict[str, list[list[str]]] = {
    "kube_proxy": [kube_fleet._kube_proxy(), ["unit kube-proxy.service /usr/bin/kube-proxy --proxy-mode ipvs"]],
    "ipvs": [
        kube_fleet._ipvs(),
        [
            "support loaded",
            *(f"proc {line}" for line in _sample("proc-net-ip_vs.txt")[3:]),
            "connection UDP 0A20000A 0035 0AF4000B 0035 UDP 3 9",
        ],
    ],
    "conntrack": [
        ["table 10 20", *(f"tool {line}" for line in _sample("conntrack-S_full.txt"))],
        ["table 1 9", *(f"proc {line}" for line in _sample("proc-net-stat-nf_conntrack.txt"))],
    ],
    "dns_flows": [["ipv4 udp 10.32.0.10 10.244.0.11 16 0 27", "ipv4 udp 10.32.0.10 10.244.0.13 16 1 27"]],
    "coredns": [["process 411 4026532345 /etc/coredns/Corefile", _base64(".:53 {", "    forward . 172.25.4.1", "}")]],
    "kernel_log": [["4\tconntrack table full\t[ 12.5] nf_conntrack: table full, dropping packet"]],
    "rulesets": [_saves()],
    "nft_hooks": [["hook inet firewalld filter_INPUT input accept", "= ct state established accept", "= reject"]],
    "nft_tables": [["table ip nat", "table inet firewalld"]],
    "neighbours": [["table 4 1024", "entries allocs destroys table_fulls", "00000071 00000003 00000000 00000001"]],
    "networkd": [
        [
            "link 7 configured /etc/systemd/network/10-bond0.network",
            "name 7 bond0",
            "foreign ManageForeignRoutes no",
            "policy 9 /usr/lib/systemd/network/99-default.link persistent",
        ]
    ],
    "image_iptables": [["1.8.7", "1.8.7", "1.8.4"]],
}
_HISTORY: dict[str, list[list[str]]] = {
    "packages": [
        ["dpkg 1795313469 upgrade dnsmasq-base:amd64 2.89-1 2.90-4~deb12u1"],
        ["rpm 1795313469 dnsmasq 2.85-6.el9"],
    ],
    "coredns": [
        [
            "file pods/kube-system_coredns-7c9d-abcde_uid/coredns/0.log",
            "group 312 2026-11-22T03:00:00Z 2026-11-22T03:14:59.12+08:00 2026-11-22T03:00:00Z 312",
            "= [ERROR] plugin/errors: read udp 10.244.0.5->172.25.4.1:53: i/o timeout",
            "= [ERROR] plugin/errors: 2 google.com. A: read udp 10.244.0.5:44444->172.25.4.1:53: i/o timeout",
        ]
    ],
    "kernel": [["4\t1795302000\t1795302600\tconntrack table full\tnf_conntrack: table full, dropping packet"]],
}
_OTHERS: dict[str, tuple[NodeFact[Any], list[str]]] = {
    "guards": (Guards(), ["file 9f 9f 755 /usr/local/lib/dnsmend/probe", "unit yes - - dnsmend-probe.timer"]),
    "provision": (
        Provision(),
        ["clock 1795219200.123", "keeper chronyd", "said Normal", "tool ip /sbin/ip", "module ip_vs on disk"],
    ),
    "sysctl_files": (SysctlFiles(), ["file /etc/sysctl.d/99-sysctl.conf", "28 net.ipv4.ip_forward = 0"]),
    "route_to": (RouteTo(), ['[{"dst":"172.26.2.145","dev":"cilium_host","prefsrc":"172.26.2.58","flags":[]}]']),
    "save": (Save(), ["cat", _base64("*nat", ":PREROUTING ACCEPT [0:0]", "COMMIT", "@code 0", "")]),
    "legacy_preflight": (
        LegacyPreflight(),
        ["family 4 3", "= iptables v1.8.9 (legacy): cannot initialize", "family 6 0"],
    ),
}


# --- what is asked

ASKED: list[Probe] = [
    probe("172.25.4.1", "zju.edu.cn", tries=3),
    probe("172.25.4.1", "version.bind", "TXT", rdclass="CH", protocol="tcp", tries=2),
    probe("172.25.4.1", protocol="icmp", tries=3, deadline_s=1.0),
]


def answer_to(asked: Probe, number: int, address: str = "10.203.4.70") -> dns.message.Message:
    """A good answer to the exec's try `number`."""
    made = dns.message.make_response(wire.query(asked, number), recursion_available=True)
    made.answer.append(dns.rrset.from_text(f"{asked['name']}.", 60, "IN", "A", address))
    return made


def _carried() -> str:
    good_answer = answer_to(ASKED[0], 0).to_wire().hex()
    return "\n".join(
        [
            f"@dns probes {json.dumps(ASKED)}",
            "@dns carrier 0 python3",
            "@dns try 0 0 412 answer",
            *(f"@dns data 0 0 {good_answer[at : at + 40]}" for at in range(0, len(good_answer), 40)),
            "@dns try 0 1 2000000 timeout",
            "@dns try 0 2 55 error Connection refused",
            "@dns try 1 0 900 closed Connection reset by peer",
            "@dns stderr 0 bash: connect: No route to host",
            "@dns ping 2 64 bytes from 172.25.4.1: icmp_seq=1 ttl=64 time=0.043 ms",
            "@dns ping 2 From 172.25.4.9 icmp_seq=2 Destination Host Unreachable",
            "@dns ping 2 3 packets transmitted, 1 received, 66% packet loss, time 2003ms",
            "@dns end",
        ]
    )


_DIG = "\n".join(
    [
        f"@dns probes {json.dumps(ASKED)}",
        "@dns carrier 0 dig",
        "@dns dig 0 0 ;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 4711",
        "@dns dig 0 0 ;; ANSWER SECTION:",
        "@dns dig 0 0 zju.edu.cn. 60 IN A 10.203.4.70",
        "@dns dig 0 0 ;; Query time: 412 usec",
        "@dns dig 0 1 ;; communications error to 172.25.4.1#53: timed out",
        "@dns end",
    ]
)


def _answers(data: bytes) -> None:
    fact = Answers()
    fact.command(ASKED)
    try:
        results = fact.process(lines(data))
    except FactProcessError:
        return
    good(results, list[Result])
    assert [result["probe"] for result in results] == ASKED, "the node chose what was asked"
    assert [len(result["tries"]) for result in results] == [asked["tries"] for asked in ASKED]


def _message(data: bytes) -> None:
    """Bytes that come as the answer to a question: they are one only with its id and its question."""
    asked = probe("172.25.4.1", "zju.edu.cn", tries=1)
    fact = Answers()
    fact.command([asked])
    text = data.hex()
    said = [f"@dns data 0 0 {text[at : at + 1000]}" for at in range(0, len(text), 1000)]
    (result,) = fact.process([f"@dns probes {json.dumps([asked])}", "@dns try 0 0 412 answer", *said])
    good(result, Result)
    if result["tries"][0]["outcome"] == "answered":
        read = dns.message.from_wire(data, ignore_trailing=True, raise_on_truncation=False)
        assert read.id == wire.identifier(0)
        # A server that cannot read a question answers without one (RFC 1035, 4.1.1).
        unread = ("FORMERR", "SERVFAIL", "NOTIMP", "REFUSED")
        assert read.question or result["tries"][0]["rcode"] in unread
        assert all(one.name.to_text().lower() == "zju.edu.cn." for one in read.question)


_LOADS: list[blast.Load] = [
    {"question": probe("172.25.4.1", "zju.edu.cn", tries=1), "rate": 10, "seconds": 1.0},
    {"question": probe("172.25.4.1", "version.bind", "TXT", rdclass="CH", tries=1), "rate": 5, "seconds": 1.0},
]
_BLAST = "\n".join(
    [
        f"@blast loads {json.dumps(_LOADS)}",
        "@blast load 0 dnsperf",
        *(SAMPLES.parent.parent / "probes/samples/dnsperf-2.10.0.txt").read_text().splitlines(),
        "@blast end",
        "@blast load 1 python3",
        "@blast took 1.002000",
        "@blast sent 5",
        "@blast received 4",
        "@blast outcome 1 timeout",
        "@blast us 412 500 610 700",
        "@blast end",
    ]
)


def _blast(data: bytes) -> None:
    fact = blast.Blast()
    fact.command(_LOADS)
    try:
        measured = fact.process(lines(data))
    except FactProcessError:
        return
    good(measured, list[blast.Measured])
    assert len(measured) == len(_LOADS), "the node chose what was asked"


_POINT: Any = {"interface": "bond0", "netns": "", "inode": 0, "host": ""}


def _capture(data: bytes) -> None:
    fact = Captured()
    fact.command([_POINT], ASKED[:2])
    try:
        found = fact.process(lines(data))
    except FactProcessError:
        return
    good(found["results"], list[Result])
    assert [capture["point"] for capture in found["captures"]] == [_POINT], "the node chose what was captured"
    for capture in found["captures"]:
        _pcap(capture["pcap"])


def _pcap(data: bytes) -> None:
    try:
        for frame in pcap.frames(data):
            if found := packets.packet(frame):
                packets.message(found)
    except ValueError:
        return


def capture_file(frame: bytes = b"\0" * 12 + b"\x08\x00") -> bytes:
    """A capture with one frame of Ethernet."""
    header = b"\xd4\xc3\xb2\xa1" + bytes([2, 0, 4, 0]) + bytes(8) + (400).to_bytes(4, "little") + b"\1\0\0\0"
    return header + bytes(8) + len(frame).to_bytes(4, "little") * 2 + frame


def udp_frame(payload: bytes, dport: int = 53) -> bytes:
    """A DNS message in UDP in IPv4 in Ethernet."""
    udp = (
        (4711).to_bytes(2, "big") + dport.to_bytes(2, "big") + (len(payload) + 8).to_bytes(2, "big") + b"\0\0" + payload
    )
    ip = b"\x45\0" + (len(udp) + 20).to_bytes(2, "big") + bytes(4) + b"\x40\x11\0\0" + bytes([10, 0, 0, 1, 10, 0, 0, 2])
    return bytes(12) + b"\x08\x00" + ip + udp


_PCAPS = [
    capture_file(),
    capture_file(udp_frame(wire.query(ASKED[0], 0).to_wire())),
    capture_file(udp_frame(bytes(8) + udp_frame(wire.query(ASKED[0], 0).to_wire()), 4789)),
]
_CAPTURED = "\n".join(
    [
        f"@capture points {json.dumps([_POINT])}",
        _carried().replace("@dns ping", "@dns pong"),
        *(f"@capture data 0 {b64encode(_PCAPS[1]).decode()}",),
        "@capture said 0 12 packets captured",
        "@capture end",
    ]
)


# --- the cluster, and files of somebody else's


def _json_of(data: bytes) -> Any:
    """None where it is none: the readers get JSON that was parsed."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


class _Says(Kubectl):
    """A kubectl whose answer is this."""

    def __init__(self, answer: Any) -> None:
        self.__dict__["answer"] = answer

    @override
    def get(self, *arguments: str) -> Any:
        return self.__dict__["answer"]


def _cluster(read: Callable[[Kubectl], list[Any]], kind: Any) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        try:
            found = read(_Says(_json_of(data)))
        except KubectlError:
            return
        good(json.loads(json.dumps(found)), kind)

    return run


def _logs(data: bytes) -> None:
    groups = of_kubectl("kube-system", data.decode("utf-8", "replace"))
    found = coredns_log.complaints({"node-0": groups})
    good(found, list[coredns_log.Complaint])
    for one in found:
        coredns_log.sentence(one)


def _corefile(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for one in corefile.upstreams(text, ["172.25.4.1"]):
        assert 0 <= one.port < 65536
    for address, port in corefile.forwarded(text):
        assert address and 0 <= port < 65536


def _ini(data: bytes) -> None:
    _inventory(ansible_ini.read, data)


def _yaml(data: bytes) -> None:
    _inventory(ansible_yaml.read, data)


def _inventory(read: Callable[[str, str], Any], data: bytes) -> None:
    try:
        listing = flatten(read(data.decode("utf-8", "replace"), "hosts"), {}, {})
    except ValueError as error:
        assert "\n" not in str(error), "more than one sentence"
        return
    for host, variables in listing.hosts.items():
        ansible_vars.data(host, variables)


def _yaml_variables(data: bytes) -> None:
    try:
        ansible_yaml.variables(data.decode("utf-8", "replace"), "all.yml")
    except ValueError as error:
        assert "\n" not in str(error), "more than one sentence"


def _ssh_arguments(data: bytes) -> None:
    try:
        ansible_ssh.options(data.decode("utf-8", "replace"))
    except ValueError:
        return


def _kubectl_nodes(data: bytes) -> None:
    try:
        made, _ = kubectl_inventory.translate(_json_of(data), "nodes.json")
    except InventoryError:
        return
    json.dumps(made)


def _bundle(data: bytes) -> None:
    parts = _json_of(data)
    if not isinstance(parts, dict):
        return
    try:
        bundle.recorded(parts)
    except PyinfraError as error:
        assert "\n" not in str(error), "more than one sentence"


def _redaction(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    redaction.text(text)
    redaction.everything({"token": text, "argv": ["--token", text], "free": text})


def _pseudonyms(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    Pseudonyms(b"k" * 16, ["node-0", "node-1"], ["zju.edu.cn"]).everything({"content": text, "value": text, text: text})


def _files(folder: Path, pattern: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.rglob(pattern)) if path.is_file()]


_LOG = (
    b"[pod/coredns-7c9d/coredns] 2026-11-22T03:00:00Z [ERROR] plugin/errors: 2 google.com. A: read udp "
    b"10.244.0.5:44444->172.25.4.1:53: i/o timeout\n[pod/coredns-7c9d/coredns] 2026-11-22T03:00:01.5Z [WARNING] "
    b"plugin/errors: 7 errors like '^read udp .* i/o timeout$' occurred in last 30s\n"
)

TARGETS: dict[str, Target] = {
    **{f"fact-{name}": _fact(fact, *_KUBERNETES.get(name, ())) for name, fact in snapshot.FACTS.items()},
    **{f"history-{name}": _fact(fact, *_HISTORY.get(name, ())) for name, fact in history.FACTS.items()},
    **{f"fact-{name}": _fact(fact, seed) for name, (fact, seed) in _OTHERS.items()},
    "snapshot": _whole(snapshot.NodeSnapshot(), snapshot.Snapshot, "snapshot.txt"),
    "counters": _whole(counters.NodeCounters(), counters.Counters, "snapshot.txt"),
    "history": _whole(history.NodeHistory(), history.History, "history.txt"),
    "answers": Target(_answers, [_carried().encode(), _DIG.encode()]),
    "dns-message": Target(_message, [answer_to(ASKED[0], 0).to_wire(), wire.query(ASKED[0], 0).to_wire()]),
    "blast": Target(_blast, [_BLAST.encode()]),
    "captured": Target(_capture, [_CAPTURED.encode()]),
    "pcap": Target(_pcap, _PCAPS),
    "kubectl-services": Target(
        _cluster(lambda kubectl: cluster.dns_services(kubectl, "kube-system"), list[cluster.DnsService]),
        _files(API, "*.json"),
    ),
    "kubectl-nodes": Target(_cluster(cluster.nodes, list[cluster.Node]), _files(API, "*.json")),
    "kubectl-pods": Target(
        _cluster(lambda kubectl: cluster.dns_pods(kubectl, "kube-system"), list[cluster.Pod]), _files(API, "*.json")
    ),
    "coredns-logs": Target(_logs, [_LOG]),
    "corefile": Target(_corefile, [b".:53 {\n    errors\n    forward . 172.25.4.1:53 /etc/resolv.conf {\n    }\n}\n"]),
    "inventory-ini": Target(_ini, [*_files(INVENTORIES, "*.ini"), b"[all]\nnode[01:03] ansible_port=22\n"]),
    "inventory-yaml": Target(_yaml, _files(INVENTORIES, "*.y*ml")),
    "inventory-variables": Target(_yaml_variables, _files(INVENTORIES, "*.y*ml")),
    "inventory-ssh": Target(_ssh_arguments, [b"-o ProxyJump=ops@192.0.2.1:22 -i ~/.ssh/id -p 2222 -F /dev/null"]),
    "inventory-kubectl": Target(_kubectl_nodes, _files(INVENTORIES, "nodes.json")),
    "bundle": Target(_bundle, [(SEEDS / "recording.json").read_bytes()]),
    "redaction": Target(_redaction, [b"--token abc password: 'x' https://u:p@h Bearer eyJhbGciOiJI.eyJpc3.sig"]),
    "pseudonyms": Target(
        _pseudonyms, [b"node-0.zju.edu.cn 10.1.2.3/24 fe80::1 52:54:00:aa:bb:cc 4.25.172.in-addr.arpa"]
    ),
}


# --- mutations

#: What breaks readers: delimiters of ours, numbers that are none, quotes, escapes, shells, templates, markup.
TOKENS = (
    *(
        "@begin System",
        "@end System",
        "!@code 0",
        "!@code x",
        "|@end System",
        "@begin ",
        "@dns end",
        "@code 0",
        "=",
        "- ",
    ),
    *(
        "nan",
        "inf",
        "-inf",
        "1e999",
        "-1",
        "9" * 30,
        "9" * 5000,
        "0x10",
        "٣",
        "",
        " ",
        "\t",
        "\0",
        "\r",
        "\x1b[31m",
        "\x9b",
    ),
    *("[" * 3000, "{" * 3000, '{"a":' * 2000, "[]", "{}", "null", "true", '""', "'", '"', "\\", "\\u0000", "\ud7ff"),
    *(
        "$(touch pwned)",
        "`id`",
        ";id",
        "a|b",
        "{{ 7*7 }}",
        "[bold]",
        "[/nothing]",
        "<script>",
        "[x](http://e)",
        "\u202e",
    ),
    *("10.0.0.1", "::1", "fe80::1%eth0", "300.1.1.1", "1.2.3.4/99", "A" * 300, "=".join("ab" * 50), "-A X -j X", ".."),
)


def mutated(seed: bytes, dice: random.Random) -> bytes:
    """The seed with a few changes, as a broken or a lying node would make them."""
    for _ in range(dice.randint(1, 4)):
        parts = seed.split(b"\n")
        at = dice.randrange(len(parts))
        token = dice.choice(TOKENS).encode()
        what = dice.randrange(8)
        if what == 0:
            parts[at] = token
        elif what == 1:
            words = parts[at].split(b" ")
            words[dice.randrange(len(words))] = token
            parts[at] = b" ".join(words)
        elif what == 2:
            cut = dice.randint(0, len(parts[at]))
            parts[at] = parts[at][:cut] + token + parts[at][cut + dice.randint(0, 3) :]
        elif what == 3:
            del parts[at]
        elif what == 4:
            parts.insert(dice.randrange(len(parts)), parts[at])
        elif what == 5:
            parts = parts[:at]
        elif what == 6:
            other = dice.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        else:
            parts[at] = _json_mutated(parts[at], dice)
        seed = b"\n".join(parts)
    return seed


def _json_mutated(line: bytes, dice: random.Random) -> bytes:
    """A line that is JSON, or base64 of something, with a value of it replaced."""
    value = _json_of(line)
    if not isinstance(value, dict | list):
        try:
            inner = mutated(b64decode(line, validate=True), dice) if len(line) > 20 else line
        except ValueError:
            return line[: len(line) // 2]
        return b64encode(inner)
    spot: Any = value
    while isinstance(spot, dict | list) and spot:
        key = dice.choice(list(spot) if isinstance(spot, dict) else range(len(spot)))
        if not isinstance(spot[key], dict | list) or not spot[key] or dice.random() < 0.2:
            spot[key] = dice.choice([None, True, -1, 1.5, "", "x", [], {}, [[]], {"a": 1}, 10**30, dice.choice(TOKENS)])
            break
        spot = spot[key]
    return json.dumps(value).encode()
