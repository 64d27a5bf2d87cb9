"""What cannot be known of a dnsmasq's configuration is unknown: no outage to come, no incident, no run that stops."""

from __future__ import annotations

from base64 import b64encode

import pytest

from checks import dnsmasq_001, dnsmasq_002, dnsmasq_003
from checks.case import Case
from checks.finding import Finding, Status
from checks.verdict import verdicts
from facts.dnsmasq import DnsmasqInstances
from models import node
from models.refused import Refused
from operations import dnsmasq
from tests.models import fleets
from tests.models.fleets import Fleet

MAIN = "/etc/dnsmasq.conf"
HEALTHY = "bind-dynamic\nserver=192.18.0.2\nno-resolv\nexcept-interface=lo\n"
SHUT = "except-interface=cilium_*\n"


def file(path: str, text: str, number: int = 1) -> list[str]:
    return [f"file 644 0 0 1 2049:{number} {path}", b64encode(text.encode()).decode()]


def answered(
    text: str,
    *sent: str,
    version: str = "2.90",
    argv: str = "/usr/sbin/dnsmasq -C /etc/dnsmasq.conf -k",
    pid: int = 500,
) -> Fleet:
    """Two nodes: node-0's dnsmasq, as its answer to the fact's script says."""
    words = b64encode(b"".join(word.encode() + b"\0" for word in argv.split())).decode()
    running = [f"process {pid} 1 100 net:[1] dnsmasq.service {words}"] if pid else []
    output = [
        *running,
        "host net:[1] 100 1790000000",
        *file(MAIN, text),
        *sent,
        f"unit loaded {'yes' if pid else 'no'} {{ path=/usr/sbin/dnsmasq ; argv[]={argv} ; }}",
        "nonlocal 0",
        f"version {version}",
    ]
    fleet = fleets.recorded()
    fleet["node-0"]["dnsmasq"] = fleets.reading(DnsmasqInstances().read(output))
    for socket in fleet["node-0"]["sockets"]["value"]:
        if socket["process"] == "dnsmasq":
            socket["owners"] = [{"process": "dnsmasq", "pid": pid}]
    return fleet


def found(fleet: Fleet) -> dict[str, Finding]:
    case = Case("node-0", fleet, node.vips(fleet, None)["node-0"], [])
    return {each["check"]: each for check in (dnsmasq_001, dnsmasq_002, dnsmasq_003) for each in check.check(case)}


def planned(fleet: Fleet) -> list[dnsmasq.Change]:
    served = node.vips(fleet, None)["node-0"]
    assert served
    return dnsmasq.changes("node-0", fleet, policy="except-lo", served=served)


UNKNOWN = [
    ("conf-file=/etc/blocked\n", ["large /etc/blocked"], "2.90", "the content of /etc/blocked is not known (large)"),
    ("conf-file=/etc/dns/key\n", ["unreadable /etc/dns/key"], "2.90", "content of /etc/dns/key is not known (unrea"),
    ("conf-dir=/etc/secret\n", ["unreadable /etc/secret"], "2.90", "the directory /etc/secret could not be read"),
    ("conf-script=/usr/local/bin/gen\n", [], "2.90", "the output of /usr/local/bin/gen is part of the configuration"),
    ("conf-file=-\n", [], "2.90", "a part of the configuration came from standard input"),
    ("conf-file=/srv/../more\n", [], "2.90", "not sent by the node: /srv/../more"),
    ("brand-new\n", [], "2.91", "dnsmasq 2.90 says: bad option at line 5 of /etc/dnsmasq.conf, and this is 2.91"),
    ("localmx=now\n", [], "2.93rc1", "dnsmasq 2.90 says: extraneous parameter at line 5 of /etc/dnsmasq.conf, and"),
    ("do-0x20-encode\n", [], "", "and which version this is is not known"),
]


@pytest.mark.parametrize(("line", "sent", "version", "says"), UNKNOWN)
def test_what_is_not_known_is_no_failure(line: str, sent: list[str], version: str, says: str) -> None:
    fleet = answered(HEALTHY + line, *sent, version=version)
    findings = found(fleet)
    assert {check: finding["status"] for check, finding in findings.items()} == dict.fromkeys(
        ("DNSMASQ-001", "DNSMASQ-002", "DNSMASQ-003"), Status.UNKNOWN
    )
    assert says in findings["DNSMASQ-002"]["sentence"]
    assert "outage" not in findings["DNSMASQ-002"]["sentence"]
    assert verdicts(list(findings.values()), [], fleet) == []
    assert planned(fleet) == []


@pytest.mark.parametrize(("line", "sent", "version", "says"), UNKNOWN)
@pytest.mark.parametrize("before", [True, False])
def test_an_edit_that_is_needed_is_refused_for_what_is_not_known(
    line: str, sent: list[str], version: str, says: str, before: bool
) -> None:
    text = HEALTHY + line
    fleet = answered(
        f"conf-file=/etc/shut\n{text}" if before else f"{text}conf-file=/etc/shut\n",
        *sent,
        *file("/etc/shut", SHUT, 2),
        version=version,
    )
    with pytest.raises(Refused) as refused:
        planned(fleet)
    assert "except-interface=cilium_* (/etc/shut:1)" in str(refused.value)
    assert "what else dnsmasq reads is not known, so nothing can be tried: " in str(refused.value)
    assert says.replace("line 5", "line 6" if before else "line 5") in str(refused.value)
    assert "would not start" not in str(refused.value)


@pytest.mark.parametrize(
    ("line", "sent", "version", "says"),
    [
        ("brand-new\n", [], "2.90", "bad option at line 5 of /etc/dnsmasq.conf"),
        ("do-0x20-encode\n", [], "2.90", "bad option at line 5 of /etc/dnsmasq.conf"),
        ("brand-new\n", [], "2.80", "bad option at line 5 of /etc/dnsmasq.conf"),
        ("port=none\n", [], "2.91", "error at line 5 of /etc/dnsmasq.conf"),
        # What comes after something unknown is wrong all the same.
        ("conf-script=/bin/gen\nbrand-new\n", [], "2.90", "bad option at line 6 of /etc/dnsmasq.conf"),
        ("conf-file=/etc/blocked\nport=a\n", ["large /etc/blocked"], "2.90", "error at line 6 of /etc/dnsmasq.conf"),
    ],
)
def test_what_dnsmasq_itself_would_refuse_is_certain(line: str, sent: list[str], version: str, says: str) -> None:
    fleet = answered(HEALTHY + line, *sent, version=version)
    finding = found(fleet)["DNSMASQ-002"]
    assert finding["status"] == Status.FAIL
    assert says in finding["sentence"] and "its next restart would be an outage" in finding["sentence"]
    with pytest.raises(Refused, match="dnsmasq would not start again: "):
        planned(fleet)


@pytest.mark.parametrize("line", ["do-0x20-encode\n", "no-0x20-encode\n", "dhcp-option-pxe=option:bootfile-name,a\n"])
def test_what_came_after_2_90_is_read_where_that_is_what_reads_it(line: str) -> None:
    fleet = answered(HEALTHY + line, version="2.91")
    assert found(fleet)["DNSMASQ-002"]["status"] == Status.PASS
    (change,) = planned(answered(f"{HEALTHY}{line}{SHUT}", version="2.92"))
    assert [culprit["value"] for culprit in change.plan.culprits] == ["cilium_*"]


def test_a_command_line_of_a_later_dnsmasq() -> None:
    fleet = answered(HEALTHY, argv="dnsmasq --brand-new -C /etc/dnsmasq.conf -k", version="2.92")
    finding = found(fleet)["DNSMASQ-002"]
    assert finding["status"] == Status.UNKNOWN
    assert "the command line is none that dnsmasq 2.90 takes, and this is 2.92" in finding["sentence"]
    # The file that is named behind it is the one that counts: what the default one holds is nobody's.
    finding = found(answered("port=none\n", argv="dnsmasq --brand-new -C /etc/mine -k", version="2.92"))["DNSMASQ-002"]
    assert finding["status"] == Status.UNKNOWN
    (change,) = planned(answered(f"{HEALTHY}{SHUT}", argv="dnsmasq --do-0x20-encode -k", version="2.91"))
    assert change.plan.argv == ("dnsmasq", "--do-0x20-encode", "-k")


def test_one_that_does_not_run_fails_for_that() -> None:
    fleet = answered(f"{HEALTHY}conf-script=/bin/gen\n", pid=0)
    findings = found(fleet)
    assert findings["DNSMASQ-002"]["status"] == Status.UNKNOWN
    assert findings["DNSMASQ-003"]["status"] == Status.FAIL
    assert "does not run, and what it reads is not all known" in findings["DNSMASQ-003"]["sentence"]


def test_a_snapshot_of_an_earlier_version_does_not_tell() -> None:
    fleet = answered(f"{HEALTHY}conf-script=/bin/gen\n")
    error = fleet["node-0"]["dnsmasq"]["value"]["instances"][0]["error"]
    assert error
    del error["certain"]
    assert found(fleet)["DNSMASQ-002"]["status"] == Status.UNKNOWN
