"""The load test's senders against real servers in network namespaces, and their bounds by what arrives."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyinfra.api.exceptions import FactProcessError

from probes import blast, blast_sender, dnsperf
from probes.blast import Blast, Load, Measured
from probes.blast_compare import compare, overloaded
from probes.probe import HOST, Source, pod, probe
from tests.probes import servers
from tests.probes.conftest import Network, required, within

SAMPLE = Path(__file__).parent / "samples" / "dnsperf-2.10.0.txt"


def load(
    address: str = "10.9.0.1",
    *,
    name: str = "a.x",
    rate: int = 200,
    seconds: float = 0.5,
    source: Source = HOST,
    port: int = 53,
    deadline_s: float = 2.0,
) -> Load:
    question = probe(address, name, source=source, port=port, tries=1, deadline_s=deadline_s)
    return {"question": question, "rate": rate, "seconds": seconds}


def run(network: Network, loads: list[Load], path: str | None = None, before: str = "") -> list[Measured]:
    done = subprocess.run(
        ["nsenter", f"--net=/proc/{network.node}/ns/net", "sh", "-c", before + Blast().command(loads)],
        env={**os.environ, "PATH": path or network.path("dnsperf")},
        executable=required("nsenter"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return Blast().process(done.stdout.splitlines())


@pytest.fixture
def counted(network: Network) -> Iterator[None]:
    """Counts what arrives at the node's port 53 during the test: ask `packets`."""
    within(
        network.node,
        "nft add table inet counted; nft add chain inet counted input '{ type filter hook input priority 0; }'",
    )
    within(network.node, "nft add rule inet counted input udp dport 53 counter")
    yield
    within(network.node, "nft delete table inet counted")


def packets(network: Network) -> int:
    listed = subprocess.run(
        ["nsenter", f"--net=/proc/{network.node}/ns/net", "nft", "--json", "list", "table", "inet", "counted"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rules = [item["rule"] for item in json.loads(listed)["nftables"] if "rule" in item]
    return int(rules[0]["expr"][-1]["counter"]["packets"])


def test_host_and_pod_are_answered_and_as_many_arrive_as_are_counted(network: Network, counted: None) -> None:
    loads = [load(), load(source=network.in_pod)]
    for measured in run(network, loads):
        assert (measured["sent"], measured["received"], measured["ratio"]) == (100, 100, 1.0)
        assert (measured["carrier"], measured["unknown"], measured["outcomes"]) == ("python3", "", {})
        assert measured["latency"] is not None
        assert 0 < measured["latency"]["p50"] <= measured["latency"]["p90"] <= measured["latency"]["p99"]
        assert measured["latency"]["p99"] <= measured["latency"]["max"] < 2000
        assert 0 < measured["reply_pps"] <= measured["sent_pps"] <= 200
    assert packets(network) == 200


def test_the_rate_is_kept_while_nothing_is_answered(network: Network) -> None:
    (measured,) = run(network, [load("10.9.0.9", source=network.in_pod)])
    assert (measured["sent"], measured["received"], measured["outcomes"]) == (100, 0, {"timeout": 100})
    assert (measured["ratio"], measured["latency"], measured["unknown"]) == (0.0, None, "")


def test_a_share_is_counted_as_it_is(network: Network) -> None:
    (measured,) = run(network, [load(port=servers.HALF)])
    assert (measured["sent"], measured["received"], measured["outcomes"]) == (100, 50, {"timeout": 50})
    assert measured["independent"] == 100


@pytest.mark.parametrize("port", [servers.WRONG_ID, servers.OTHER_QUESTION, servers.GARBAGE, servers.EMPTY])
def test_what_is_no_answer_to_the_question_is_lost(network: Network, port: int) -> None:
    (measured,) = run(network, [load(port=port)])
    assert (measured["received"], measured["outcomes"]) == (0, {"timeout": 100})


def test_what_came_instead_is_told(network: Network) -> None:
    closed, refused, unreachable = run(
        network, [load(port=5999), load(name="b.zz"), load("10.9.8.1", source=network.in_pod)]
    )
    assert closed["outcomes"] == {"Connection refused": 100}
    assert refused["outcomes"] == {"REFUSED": 100}
    assert list(unreachable["outcomes"].values()) == [100] and "timeout" not in unreachable["outcomes"]
    assert {closed["received"], refused["received"], unreachable["received"]} == {0}


def test_ipv6(network: Network) -> None:
    source = pod("default/client", network.pod, address="fd09::2")
    assert [one["received"] for one in run(network, [load("fd09::1"), load("fd09::1", source=source)])] == [100, 100]


def test_without_a_sender_it_is_unknown(network: Network, counted: None) -> None:
    measured = run(network, [load(), load(source=network.in_pod)], network.path("dnsperf", "python3"))
    assert [one["unknown"] for one in measured] == ["the node has no python3, and no dnsperf that can ask this"] * 2
    assert [(one["sent"], one["ratio"]) for one in measured] == [(0, None)] * 2
    assert packets(network) == 0


def test_a_process_id_that_is_another_ones_now_is_not_asked_from(network: Network, counted: None) -> None:
    source = pod("default/client", network.pod, address="10.9.0.77")
    (measured,) = run(network, [load(source=source)])
    assert measured["unknown"] == "the address is not in this network namespace"
    assert packets(network) == 0


def test_a_pod_that_has_ended_is_unknown(network: Network) -> None:
    (measured,) = run(network, [load(source=pod("default/client", 4_000_000, address="10.9.0.2"))])
    assert "No such file or directory" in measured["unknown"] and measured["sent"] == 0


def test_what_the_node_could_not_send_was_not_lost(network: Network) -> None:
    slow = load("10.9.0.9", source=network.in_pod)
    (measured,) = run(network, [slow], before="ulimit -n 40\n")
    assert "not sent: Too many open files" in measured["unknown"] or "only" in measured["unknown"]
    assert 0 < measured["sent"] < 40 and measured["outcomes"] == {"timeout": measured["sent"]}


def test_too_much_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ValueError, match="60000 questions are more than the 50000"):
        Blast().command([load(rate=3000, seconds=10), load(rate=3000, seconds=10)])
    with pytest.raises(ValueError, match="61 s of asking are more than the 60"):
        Blast().command([load(rate=1, seconds=61)])
    with pytest.raises(ValueError, match="a rate must be from 1 to 5000"):
        Blast().command([load(rate=5001, seconds=1)])


def test_the_sender_has_bounds_of_its_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever it is told: this is the last thing between a typing error and an outage."""
    monkeypatch.setattr(blast_sender, "MOST_QUESTIONS", 30)
    monkeypatch.setattr("resource.setrlimit", lambda what, limits: None)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        question = "01000001000000000000" + "0161017800" + "00010001"
        blast_sender.main("127.0.0.1", str(server.getsockname()[1]), "1000", "1000", "0.1", question)
        server.setblocking(False)
        arrived = 0
        while True:
            try:
                server.recv(100)
            except BlockingIOError:
                break
            arrived += 1
    assert arrived == 30
    assert "@blast outcome 30 timeout" in capsys.readouterr().out
    monkeypatch.setattr(blast_sender, "MOST_SECONDS", 0.05)
    blast_sender.main("127.0.0.1", "9", "100", "1000", "0.1", question)
    sent = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("@blast sent"))
    assert sum(map(int, sent.split()[2:])) == 5


def test_every_question_has_a_port_of_its_own(network: Network) -> None:
    counting = (
        "import socket\ns = socket.socket(2, 2)\ns.bind(('', 6999))\ns.settimeout(3)\nprint('ready', flush=True)\n"
    )
    counting += "print(len({s.recvfrom(99)[1][1] for _ in range(100)}))"
    with subprocess.Popen(
        ["nsenter", f"--net=/proc/{network.node}/ns/net", "python3", "-c", counting],
        executable=required("nsenter"),
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        run(network, [load(port=6999, deadline_s=0.1)])
        assert int(server.stdout.readline()) > 95


def test_nothing_remains_on_the_node(network: Network) -> None:
    """No process is left, not even of one whose controller went away: it ends by itself, with its pipes."""
    before = processes(network)
    run(network, [load("10.9.0.9", source=network.in_pod, rate=10, seconds=0.2)])
    assert processes(network) == before
    command = Blast().command([load("10.9.0.9", source=network.in_pod, rate=10, seconds=3)])
    ended = subprocess.run(
        ["timeout", "1", "nsenter", f"--net=/proc/{network.node}/ns/net", "sh", "-c", command],
        executable=required("timeout"),
        env={**os.environ, "PATH": network.path("dnsperf")},
        capture_output=True,
    )
    assert ended.returncode == 124
    deadline = time.monotonic() + 20
    while processes(network) != before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes(network) == before


def processes(network: Network) -> set[str]:
    """Process ids in the network namespaces of node and pod."""
    spaces = {Path(f"/proc/{pid}/ns/net").readlink() for pid in (network.node, network.pod)}
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if (entry / "ns/net").readlink() in spaces and "Z" not in (entry / "stat").read_text().split()[2]:
                    found.add(entry.name)
            except OSError:
                continue
    return found


def test_output_of_something_else_is_not_taken_for_a_result() -> None:
    with pytest.raises(FactProcessError):
        Blast().process(["Welcome to node-0", "sh: 1: Syntax error"])


@pytest.mark.parametrize(
    "said",
    [
        ["@blast sent 10 10", "@blast received 20 0", "@blast us 1", "@blast end"],
        ["@blast sent 10", "@blast received 10", "@blast us 1 2", "@blast end"],
        ["@blast sent 1000", "@blast received 1000", "@blast us" + " 1" * 1000, "@blast end"],
        ["@blast sent 10", "@blast received 4", "@blast us 1 2 3 4", "@blast outcome 2 timeout", "@blast end"],
        ["@blast sent 100", "@blast received 100"],
    ],
)
def test_figures_that_do_not_add_up_are_unknown(said: list[str]) -> None:
    (measured,) = blast.read([load()], ["@blast load 0 python3", *said])
    assert measured["unknown"] and measured["sent"] == 0


def recorded(tmp_path: Path, network: Network) -> str:
    """A PATH whose dnsperf says what a real one has said: 70 questions, 10 refused, 10 lost."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("sh", "timeout", "grep", "nsenter", "yes", "head", "sed", "cat"):
        (folder / tool).symlink_to(required(tool))
    (folder / "dnsperf").write_text(f"#!/bin/sh\ncat {SAMPLE}\n")
    (folder / "dnsperf").chmod(0o755)
    return str(folder)


def test_dnsperf_as_it_was_recorded(tmp_path: Path, network: Network) -> None:
    (measured,) = run(network, [load(rate=70, seconds=1)], recorded(tmp_path, network))
    assert (measured["carrier"], measured["unknown"]) == ("dnsperf", "")
    assert (measured["sent"], measured["received"]) == (70, 50)
    assert measured["outcomes"] == {"REFUSED": 10, "timeout": 10}
    assert measured["latency"] is not None
    assert 0.115 <= measured["latency"]["p50"] <= measured["latency"]["max"] == 0.298
    assert measured["independent"] == 70


def test_dnsperf_that_fails_is_unknown(tmp_path: Path, network: Network) -> None:
    path = recorded(tmp_path, network)
    Path(path, "dnsperf").write_text("#!/bin/sh\necho 'dnsperf: Error: cannot open socket'; exit 1\n")
    (measured,) = run(network, [load()], path)
    assert measured["unknown"] == "dnsperf: dnsperf: Error: cannot open socket"


def test_dnsperf_is_not_given_what_it_cannot_ask(tmp_path: Path, network: Network) -> None:
    chaos = load()
    chaos["question"] = probe("10.9.0.1", "version.bind", "TXT", rdclass="CH", tries=1)
    (measured,) = run(network, [chaos], recorded(tmp_path, network))
    assert measured["unknown"] == "the node has no python3, and no dnsperf that can ask this"


def test_the_real_dnsperf(network: Network, counted: None) -> None:
    for measured in run(network, [load(), load(source=network.in_pod)], os.environ["PATH"]):
        assert (measured["carrier"], measured["sent"], measured["received"]) == ("dnsperf", 100, 100)
        assert measured["latency"] is not None
    assert packets(network) == 200
    lost, refused = run(network, [load("10.9.0.9", source=network.in_pod), load(name="b.zz")], os.environ["PATH"])
    assert (lost["outcomes"], refused["outcomes"]) == ({"timeout": 100}, {"REFUSED": 100})


def measured(source: str, sent: int, received: int, unknown: str = "") -> Measured:
    return {
        **blast.nothing(load(), unknown),
        "source": source,
        "sent": sent,
        "received": received,
        "ratio": received / sent if sent else None,
        "independent": float(sent),
    }


@pytest.mark.parametrize(
    ("host", "asked_from_pod", "result"),
    [
        ((300, 300), (300, 300), "equal"),
        ((300, 300), (300, 297), "equal"),
        ((300, 300), (300, 285), "pod loses more"),
        ((30, 30), (30, 0), "pod loses more"),
        ((30, 0), (30, 30), "host loses more"),
        ((300, 200), (300, 205), "equal"),
        ((30, 0), (30, 0), "unknown"),
    ],
)
def test_host_against_pod(host: tuple[int, int], asked_from_pod: tuple[int, int], result: str) -> None:
    made = compare("node-0", load(), [measured("host", *host), measured("pod 10.9.0.2", *asked_from_pod)], 4)
    assert made["result"] == result
    assert (made["low"] is None) == (result == "unknown")


def test_what_is_unknown_of_one_of_them_is_not_compared() -> None:
    made = compare("node-0", load(), [measured("host", 300, 300), measured("pod 10.9.0.2", 0, 0, "gone")], 4)
    assert (made["result"], made["because"]) == ("unknown", "pod 10.9.0.2: gone")
    assert overloaded(made)


def test_more_than_half_lost_ends_the_ramp() -> None:
    assert not overloaded(compare("n", load(), [measured("host", 300, 300), measured("pod", 300, 150)], 4))
    assert overloaded(compare("n", load(), [measured("host", 300, 300), measured("pod", 300, 149)], 4))


def test_dnsperfs_clients_bound_what_its_questions_are_worth() -> None:
    lines = ["@blast load 0 dnsperf", "@blast dnsperf Queries sent:         1000"]
    lines += ["@blast dnsperf Queries completed:    1000 (100.00%)", "@blast dnsperf Queries lost:         0 (0.00%)"]
    lines += [
        "@blast dnsperf Response codes:       NOERROR 1000 (100.00%)",
        "@blast dnsperf Run time (s):         1.000",
    ]
    lines += ["@blast answer NOERROR 0.000100"] * 1000 + ["@blast end"]
    (made,) = blast.read([load(rate=1000, seconds=1)], lines)
    assert made["received"] == 1000 and made["independent"] == dnsperf.CLIENTS
