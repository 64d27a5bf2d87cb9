"""What the guards tell: the judge of their answers, and that alerts and dashboard speak of metrics that there are."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from operations.guard_files import table
from probes.guard import Asked
from probes.probe import probe
from tests.conftest import ROOT

JUDGE = ROOT / "templates/guards/judge.awk"
MONITORING = ROOT / "docs/monitoring"
RULES = MONITORING / "dnsmend.rules.yml"
DASHBOARD = MONITORING / "dnsmend.dashboard.json"

VIP = [
    Asked("vip", probe("172.25.4.1", "version.bind", "TXT", rdclass="CH", protocol=protocol, tries=2))
    for protocol in ("udp", "tcp")
]
UPSTREAM = [Asked("upstream", probe("10.10.0.21", "zju.edu.cn", "SOA", port=5353, tries=1, rcodes=["NOERROR"]))]
LABELS = '{stage="vip",target="172.25.4.1",protocol="udp"}'


def answer(asked: Asked, rcode: int = 0, response: bool = True, question: str = "") -> str:
    wire = table({"host": [asked]}).split()[7]
    return f"4020{'8' if response else '0'}18{rcode}{wire[4:20]}{question or wire[20:]}"


def judge(
    folder: Path, lines: list[str], parts: dict[str, list[Asked]], before: str = ""
) -> tuple[int, list[str], dict[str, str]]:
    """Exit code, what was said, the metrics."""
    (folder / "table").write_text(table(parts))
    (folder / "before").write_text(before)
    (folder / "out").unlink(missing_ok=True)
    names = {"table": "table", "previous": "before", "out": "out", "now": "1790000000", "journal": "1", "where": "node"}
    chosen = [each for name, value in names.items() for each in ("-v", f"{name}={value}")]
    done = subprocess.run(
        ["awk", *chosen, "-f", str(JUDGE), "table", "before", "-"],
        input="\n".join(lines) + "\n",
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    out = folder / "out"
    samples = [line for line in out.read_text().splitlines() if line[0] != "#"] if out.exists() else []
    return done.returncode, done.stdout.splitlines(), {line.rpartition(" ")[0]: line.split(" ")[-1] for line in samples}


def test_answered(tmp_path: Path) -> None:
    lines = ["@part host", "@dns carrier 0 bash"]
    for number, asked in enumerate(VIP):
        for nth, micros in enumerate((1500, 900)):
            text = answer(asked, rcode=5)
            lines += [f"@dns data {number} {nth} {text[:20]}", f"@dns data {number} {nth} {text[20:]}"]
            lines += [f"@dns try {number} {nth} {micros} answer"]
    code, said, metrics = judge(tmp_path, lines, {"host": VIP, "pod": []})
    assert (code, said) == (0, [])
    assert metrics[f"dnsmend_guard_success{LABELS}"] == "1"
    assert metrics[f"dnsmend_guard_duration_seconds{LABELS}"] == "0.001500"
    assert metrics[f"dnsmend_guard_queries_total{LABELS}"] == "2"
    # Another exporter's names would make other people's alerts fire: blackbox_exporter's `probe_success == 0`.
    assert {name.partition("{")[0].rpartition("_guard_")[0] for name in metrics} == {"dnsmend"}
    assert metrics[f"dnsmend_guard_lost_total{LABELS}"] == "0"
    assert metrics['dnsmend_guard_last_run_timestamp_seconds{stage="probe"}'] == "1790000000"
    promtool("check", "metrics", given=(tmp_path / "out").read_text())


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["@dns try 0 0 2000000 timeout"], "timeout"),
        (["@dns try 0 0 2000000 timeout connected, 0 bytes"], "timeout connected, 0 bytes"),
        (["@dns try 0 0 800 error bash: connect: Connection refused"], "error bash: connect: Connection refused"),
        ([f"@dns data 0 0 {answer(UPSTREAM[0], rcode=2)}", "@dns try 0 0 90 answer"], "SERVFAIL"),
        ([f"@dns data 0 0 {answer(UPSTREAM[0], rcode=5)}", "@dns try 0 0 90 answer"], "REFUSED"),
        ([f"@dns data 0 0 {answer(UPSTREAM[0], rcode=9)}", "@dns try 0 0 90 answer"], "an unknown RCODE"),
        ([f"@dns data 0 0 {answer(UPSTREAM[0], response=False)}", "@dns try 0 0 90 answer"], "no DNS answer"),
        (["@dns data 0 0 4020", "@dns try 0 0 90 answer"], "no DNS answer"),
        (["@dns try 0 0 90 answer"], "no DNS answer"),
        (
            [f"@dns data 0 0 {answer(UPSTREAM[0], question='03777777026875000001')}", "@dns try 0 0 90 answer"],
            "the answer to another question",
        ),
        (["@dns dig 0 0 ;; connection timed out; no servers could be reached"], "timeout"),
        (
            [
                "@dns dig 0 0 ;; ->>HEADER<<- opcode: QUERY, status: SERVFAIL, id: 1",
                "@dns dig 0 0 ;; Query time: 4 msec",
            ],
            "SERVFAIL",
        ),
    ],
)
def test_lost(tmp_path: Path, lines: list[str], why: str) -> None:
    code, said, metrics = judge(tmp_path, ["@part host", *lines], {"host": UPSTREAM, "pod": []})
    labels = '{stage="upstream",target="10.10.0.21:5353",protocol="udp"}'
    about = "upstream 10.10.0.21:5353 over udp, from the node, zju.edu.cn SOA"
    assert said == [f"<3>dnsmend: {about}: 1 of 1 lost: {why} (1)"]
    assert code == 1
    assert metrics[f"dnsmend_guard_success{labels}"] == "0"
    assert f"dnsmend_guard_duration_seconds{labels}" not in metrics
    assert metrics[f"dnsmend_guard_lost_total{labels}"] == "1"


def test_nxdomain_is_an_answer_and_dig_tells_the_time(tmp_path: Path) -> None:
    lines = [f"@dns data 0 0 {answer(UPSTREAM[0], rcode=3)}", "@dns try 0 0 90 answer"]
    assert judge(tmp_path, ["@part host", *lines], {"host": UPSTREAM})[0] == 0
    lines = ["@dns dig 0 0 ;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 1", "@dns dig 0 0 ;; Query time: 4 msec"]
    code, _, metrics = judge(tmp_path, ["@part host", *lines], {"host": UPSTREAM})
    assert code == 0
    assert (
        metrics['dnsmend_guard_duration_seconds{stage="upstream",target="10.10.0.21:5353",protocol="udp"}']
        == "0.004000"
    )


def test_counters_go_on_and_the_end_of_a_fault_is_told(tmp_path: Path) -> None:
    half = [f"@dns data 0 0 {answer(VIP[0])}", "@dns try 0 0 90 answer", "@dns try 0 1 2000000 timeout"]
    code, said, metrics = judge(
        tmp_path,
        ["@part pod", *half],
        {"pod": VIP[:1]},
        f"# HELP\ndnsmend_guard_queries_total{LABELS} 4294967296\ndnsmend_guard_lost_total{LABELS} 7\n",
    )
    assert code == 1
    assert said == ["<3>dnsmend: vip 172.25.4.1 over udp, from a DNS pod, version.bind TXT: 1 of 2 lost: timeout (1)"]
    assert metrics[f"dnsmend_guard_queries_total{LABELS}"] == "4294967298"
    assert metrics[f"dnsmend_guard_lost_total{LABELS}"] == "8"
    whole = [*half[:2], f"@dns data 0 1 {answer(VIP[0])}", "@dns try 0 1 90 answer"]
    code, said, _ = judge(tmp_path, ["@part pod", *whole], {"pod": VIP[:1]}, f"dnsmend_guard_success{LABELS} 0\n")
    assert (code, said) == (
        0,
        ["<5>dnsmend: vip 172.25.4.1 over udp, from a DNS pod, version.bind TXT: answered again"],
    )


def test_unknown_is_never_success(tmp_path: Path) -> None:
    code, said, metrics = judge(tmp_path, ["@part host", "@dns carrier 0 none"], {"host": VIP})
    assert code == 2
    assert not [name for name in metrics if name.startswith(("dnsmend_guard_success", "dnsmend_guard_duration"))]
    assert metrics['dnsmend_guard_last_run_timestamp_seconds{stage="probe"}'] == "0"
    assert said == ["<3>dnsmend: nothing could be asked: neither python3 nor bash nor dig is here"]
    # One that was not, among others that were, is told.
    lines = [
        "@part host",
        f"@dns data 0 0 {answer(VIP[0])}",
        "@dns try 0 0 90 answer",
        "@dns stderr 0 sh: out of memory",
    ]
    code, said, metrics = judge(tmp_path, lines, {"host": VIP})
    assert said == [
        "<3>dnsmend: vip 172.25.4.1 over udp, from the node, version.bind TXT: 1 of 2 lost: not sent (1)",
        "<3>dnsmend: vip 172.25.4.1 over tcp, from the node, version.bind TXT: not asked: sh: out of memory",
    ]
    assert [name for name in metrics if name.startswith("dnsmend_guard_success")] == [f"dnsmend_guard_success{LABELS}"]
    assert metrics[f"dnsmend_guard_success{LABELS}"] == "0"
    # A node without a DNS pod has no sample for one, and nothing to complain of.
    lines = ["@part host", f"@dns data 0 0 {answer(UPSTREAM[0])}", "@dns try 0 0 90 answer"]
    code, said, metrics = judge(tmp_path, lines, {"host": UPSTREAM, "pod": VIP})
    assert (code, said) == (0, [])
    assert f"dnsmend_guard_success{LABELS}" not in metrics


def promtool(*arguments: str, given: str = "") -> str:
    done = subprocess.run(["promtool", *arguments], input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rules() -> None:
    assert "10 rules found" in promtool("check", "rules", str(RULES))
    promtool("test", "rules", str(ROOT / "tests/fixtures/monitoring/dnsmend.rules.test.yml"))


def written() -> set[str]:
    """The metrics that the guards' templates write."""
    texts = [JUDGE.read_text(), (ROOT / "templates/guards/backend.sh.j2").read_text()]
    return {name for text in texts for name in metrics_of(text)}


def test_every_metric_of_the_rules_and_the_dashboard_is_written() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    used = set(metrics_of(json.dumps(dashboard))) | set(metrics_of(RULES.read_text()))
    assert used <= written()
    assert written() <= set(metrics_of((ROOT / "docs/guards.md").read_text()))
    # A word that only looks like one would make this test say nothing.
    assert len(used) >= 8


def metrics_of(text: str) -> list[str]:
    return re.findall(r"\b(?:probe_success|probe_dns_[a-z_]+|dnsmend_guard_[a-z_]+)", text)


def test_the_dashboard_is_whole(tmp_path: Path) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels: list[dict[str, Any]] = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"] and panel["description"] and panel["targets"]
        assert panel["datasource"]["uid"] == "${datasource}"
    # Its expressions are PromQL: promtool reads them as rules.
    queries = [target["expr"].replace("$instance", ".*") for panel in panels for target in panel["targets"]]
    rules = [{"record": f"test:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "dashboard.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", str(tmp_path / "dashboard.yml"))
    cells = [
        (column, row)
        for panel in panels
        for column in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for row in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)) and max(column for column, _ in cells) < 24
