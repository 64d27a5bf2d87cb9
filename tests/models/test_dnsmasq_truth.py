"""Every measured row: what dnsmasq 2.90 answered, and on what it listened."""

import json
import re
from pathlib import Path
from typing import TypedDict

from facts.dnsmasq_options import Option, read_options
from models.dnsmasq import Address, Host, Outcome, Query, answer, configuration, starts

TRUTH = Path(__file__).parent.parent / "truth" / "dnsmasq-answers.json"


class Row(TypedDict):
    cmdline: list[str]
    destination: str
    dst_addr: str
    family: int
    filters: list[str]
    listeners: list[str]
    mode: str
    proto: str
    result: str
    source: str
    started: bool
    topology: str


MEASURED = Host(
    interfaces=frozenset({"lo", "bond0", "cilium_net", "cilium_host", "lxc1234"}),
    addresses=(
        Address.of("lo", "127.0.0.1/8"),
        Address.of("lo", "::1/128"),
        Address.of("bond0", "172.25.4.1/24"),
        Address.of("bond0", "fd25::1/64"),
        Address.of("bond0", "fe80::b0/64"),
        Address.of("cilium_net", "fe80::c1/64"),
        Address.of("cilium_host", "172.26.2.58/32"),
        Address.of("cilium_host", "fd26::58/128"),
        Address.of("cilium_host", "fe80::c2/64"),
        Address.of("lxc1234", "fe80::1c/64"),
    ),
)
SOURCES = {
    "pod": {4: "172.26.2.145", 6: "fd26::145"},
    "LAN": {4: "172.25.4.9", 6: "fd25::9"},
    "remote-pod(172.26.9.7 via bond0)": {4: "172.26.9.7"},
}


def rows() -> list[Row]:
    table = json.loads(TRUTH.read_text())
    columns, values = table["columns"], table["values"]
    return [{column: values[column][at] for column, at in zip(columns, row, strict=True)} for row in table["rows"]]  # type: ignore[misc]


def options_of(row: Row) -> list[Option]:
    content = "\n".join(([] if row["mode"] == "default-wildcard" else [row["mode"]]) + row["filters"])
    path = "/etc/dnsmasq.d/policy.conf"
    sent = {path: {"path": path, "kind": "file", "content": content, "entries": []}}
    options, _ = read_options(["dnsmasq", "-C", path, *row["cmdline"]], sent)  # type: ignore[arg-type]
    return options


def query_of(row: Row) -> Query:
    if row["source"] == "host":
        return Query.from_host(MEASURED, row["dst_addr"], row["proto"])
    arrival = "bond0"
    if row["source"] == "pod":
        arrival = "lxc1234" if row["topology"].startswith("endpoint-routes") else "cilium_host"
    return Query.of(SOURCES[row["source"]][row["family"]], row["dst_addr"], row["proto"], arrival)


def listener(line: str) -> str:
    """`udp UNCONN 0 0 [fe80::1]%bond0:53 [::]:*` without counters; link-local addresses were random when measured."""
    protocol, local = line.split()[0], line.split()[4]
    return f"{protocol} {re.sub(r'fe80::[^]]*', 'fe80::', local)}"


def test_every_measured_row_is_predicted() -> None:
    table = rows()
    wrong = []
    for row in table:
        verdict = answer(configuration(options_of(row)), MEASURED, query_of(row))
        if verdict.outcome != row["result"]:
            wrong.append((row, verdict))
    assert len(table) == 1608
    assert wrong == []


def test_every_measured_listener_is_predicted() -> None:
    wrong = []
    for row in rows():
        start = starts(configuration(options_of(row)), MEASURED)
        predicted = sorted(listener(f"{str(socket).replace(' ', ' x 0 0 ')} *") for socket in start.sockets)
        if start.started != row["started"] or predicted != sorted(map(listener, row["listeners"])):
            wrong.append((row, start))
    assert wrong == []


def test_every_rejected_row_names_an_option() -> None:
    """Whatever fails in these rows fails because of the configuration, so a verdict without a culprit is incomplete."""
    nameless = []
    for row in rows():
        verdict = answer(configuration(options_of(row)), MEASURED, query_of(row))
        if verdict.outcome is not Outcome.ANSWERED and verdict.culprit is None:
            nameless.append((row["mode"], row["filters"], row["proto"], row["topology"], verdict.because))
    # No option closes TCP on an interface without an address: the wildcard default does.
    assert {entry for entry in map(str, nameless) if "which has no IPv4 address" not in entry} == set()
