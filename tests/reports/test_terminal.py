"""The summary for people: on standard error, as wide as the terminal, in colours only where they are wanted."""

from __future__ import annotations

import io
import re
import sys

import pytest
from rich.console import Console

from checks.diagnosis import Diagnosis
from deploys import cases
from reports import html, markdown, terminal
from tests.reports import diagnoses


def shown(diagnosis: Diagnosis, width: int = 100) -> str:
    out = io.StringIO()
    terminal.summary(diagnosis, Console(file=out, width=width, highlight=False))
    return out.getvalue()


def test_a_verdict_is_a_block_with_everything_in_it() -> None:
    text = shown(diagnoses.cilium(), 140)
    for said in (
        "VERDICT pod -> CoreDNS ok, CoreDNS -> 172.25.4.1 lost 100%: except-interface=cilium_*",
        "cause: DNSMASQ-001: dnsmasq answers what arrives from pods",
        "first loss: node-0, pod 10.244.0.11 -> 172.25.4.1:53: UDP google.com: 20 of 20 lost, 100% (84-100%)",
        "repair: node-0",
        "affected: node-0, node-0 pod 10.244.0.11, node-1",
        "so: half of all queries time out",
        "    capture: 20 arrived on cilium_host, 0 answered, nothing on bond0",
        "not IPTABLES-001: no rule outside the backend in use takes port 53",
        "fix: pyinfra inventory deploys/fix_dns.py --limit node-0 -y",
        "certainty: certain",
        "1 incident; to repair: node-0.",
        "checks: 5 pass, 1 fail",
    ):
        assert said in text
    assert "FAIL" not in text, "its root cause explains the failed check"


def test_the_matrix_has_a_rate_with_its_interval() -> None:
    lines = shown(diagnoses.mixed()).splitlines()
    row = next(at for at, line in enumerate(lines) if line.startswith(" node-1"))
    assert "55% lost" in lines[row] and "34-74%" in lines[row + 1]


def test_two_incidents_are_two_verdicts_and_the_rest_is_short() -> None:
    text = shown(diagnoses.both())
    assert text.count("VERDICT") == 2
    assert "WARN node-2 DNSMASQ-004: dnsmasq runs with an older configuration" in text
    assert "CONNTRACK-002" not in text, "a verdict explains it"
    assert "pass" in text.splitlines()[-1] and "DNSMASQ-001: as it should be" not in text


def test_unknown_is_not_well() -> None:
    text = shown(diagnoses.unknowns())
    assert "not read: node-2: connection refused" in text
    assert "UNKNOWN node-1 DNSMASQ-001: pods: not permitted" in text
    assert "not seen: no kubectl: EndpointSlices were not compared" in text
    assert "Nothing is known to be lost, but not all is known: 1 check unknown, 1 node unread." in text
    assert "All is well" not in text


def test_a_healthy_fleet_is_short() -> None:
    text = shown(diagnoses.healthy())
    assert "All is well: 23 hops on 3 nodes answer." in text
    assert len(text.splitlines()) < 15


def test_nothing_asked_is_nothing_proven() -> None:
    empty = diagnoses.healthy()
    empty["hops"] = []
    assert "Nothing was asked, so nothing is proven." in shown(empty)


def test_nothing_proven_is_not_well() -> None:
    made = diagnoses.healthy()
    made["unseen"] = [cases.NOTHING_SERVES]
    assert "Nothing was proven: see what could not be seen." in shown(made)
    made["unseen"] = ["no kubectl"]
    assert "All is well, as far as it was seen: 23 hops on 3 nodes answer." in shown(made)


def test_a_pod_that_is_kept_out_is_no_doubt() -> None:
    made = diagnoses.healthy()
    hop = next(hop for hop in made["hops"] if hop["stage"] == "pod to service")
    made["hops"].append({**hop, "id": "another", "state": "unknown", "why": "a NetworkPolicy, as it seems"})
    made["unseen"] = ["pod: not answered"]
    text = shown(made)
    assert "All is well, as far as it was seen: 23 hops on 3 nodes answer." in text and "unknown" not in text


def test_a_loss_without_a_cause_is_said() -> None:
    made = diagnoses.healthy()
    diagnoses.lose(made, "host to dnsmasq", "node-1", 4)
    assert "Something is wrong, and no cause was found: 1 losing hop, 0 failed checks." in shown(made)


def test_what_was_not_seen_on_a_thousand_nodes_is_cut() -> None:
    made = diagnoses.healthy()
    made["unseen"] = [f"node-{number}: no tcpdump" for number in range(1000)]
    assert "and 988 more not seen" in shown(made)


@pytest.mark.parametrize("name", diagnoses.ALL)
def test_forty_columns(name: str) -> None:
    text = shown(diagnoses.ALL[name](), 40)
    assert all(len(line) <= 40 for line in text.splitlines() if not line.startswith("  fix: "))
    assert not any(line.endswith(" ") for line in text.splitlines() if not line.startswith("  fix: "))
    if name == "cilium":
        assert "pod to service: 50% lost 30-70%" in text


def test_a_thousand_nodes_fit_a_screen() -> None:
    lines = shown(diagnoses.large()).splitlines()
    assert any("and 989 more, all ok" in line for line in lines)
    assert any("and 4 more, not read either" in line for line in lines)
    assert len(lines) < 50


def test_a_thousand_nodes_that_all_fare_differently_fit_too() -> None:
    made = diagnoses.healthy(tuple(f"node-{number}" for number in range(1000)))
    for number, hop in enumerate(one for one in made["hops"] if one["stage"] == "pod to service"):
        hop["losses"] = [diagnoses.loss(lost=1 + number, sent=1001)]
        hop["state"] = "loses"
    text = shown(made)
    assert len(text.splitlines()) < 100 and "none of them worse" in text


def test_nothing_of_a_node_reaches_the_terminal_as_it_is() -> None:
    text = shown(diagnoses.hostile())
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert "\\x1b]0;pwned" in text and "[red]markup[/red]" in text
    assert len(text) < 60_000


def test_it_goes_to_standard_error_and_has_no_colour_with_no_color(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    terminal.summary(diagnoses.cilium())
    terminal.progress("reading \x1b[2J 3 nodes")
    said = capsys.readouterr()
    assert said.out == ""
    assert "VERDICT" in said.err and "--> reading \\x1b[2J 3 nodes" in said.err
    assert not re.search("\x1b\\[[0-9;]*3[0-9]m", said.err)
    assert sys.stderr is not None


def test_a_command_is_never_cut() -> None:
    made = diagnoses.cilium()
    fix = f"pyinfra inventory {' '.join(f'--limit node-{number}' for number in range(1000))} -y server.sysctl key=1"
    made["verdicts"][0]["fix"] = fix
    for text in (shown(made), markdown.render(made), html.render(made)):
        assert fix in text


def test_with_what_a_fix_is_to_be_run_is_said_once() -> None:
    said = "Run a fix with the inventory, --limit and --data of this run, where others were given."
    for made, times in ((diagnoses.both(), 1), (diagnoses.healthy(), 0)):
        assert [text.count(said) for text in (shown(made), html.render(made))] == [times, times]
        assert markdown.render(made).count("--data of this run") == times
