"""From what was recorded, bent by a hostile hand, through judging and planning to every report and every command."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from html.parser import HTMLParser
from io import StringIO
from runpy import run_path
from typing import Any, cast
from xml.etree import ElementTree

from pyinfra.api.exceptions import PyinfraError
from rich.console import Console

from checks.diagnosis import Diagnosis
from deploys import bundle, cases, drift, rollout
from deploys import policy as policies
from deploys import replay as replays
from deploys.bundle import Recorded
from deploys.policy import Policy
from facts.snapshot import NodeSnapshot, Snapshot
from models.kube_services import vips
from models.refused import Refused
from operations import alternatives, conntrack, dnsmasq, kube_proxy
from probes.probe import Result, probe
from reports import html, json_report, junit, markdown, probe_table, terminal
from reports.drift import junit as drift_junit
from reports.drift import text as drift_text
from tests.checks import kube_fleet
from tests.fuzz.targets import SEEDS, lines, mutated

#: Every text that a node can choose may be one of these.
HOSTILE = (
    *(
        "a;touch pwned",
        "$(touch pwned)",
        "`touch pwned`",
        "x' ; touch pwned; '",
        'x" ; touch pwned; "',
        "a|touch pwned",
    ),
    *("{{ 7*7 }}", "{% raw %}", "[bold]x[/bold]", "[/nothing]", "[link=file:///x]", "a | b", "a\nb", "\r\n## pwned"),
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '" onload="x', "]]>", "&amp;", "</svg>", "--> <b>"),
    *("[click](javascript:alert(1))", "![x](http://evil.example/y.png)", "``` x", "# x", "- x", "http://evil.example"),
    *("\x1b]0;pwned\x07", "\x1b[2J", "\x9b31m", "\0", "\x7f", "\u202eturned", "\ud800", "\udcff", "\ufffe", "\u200b"),
    *("", " ", "-rf", "--help", "../../etc/shadow", "/dev/zero", "nan", "10.0.0.1", "::1", "%s%n", "\\", "'", '"'),
    *("A" * 3000, "x\\", "$IFS", "a&&b", "~root", "*", "?", "node-0 ", "EOF", "TEST", "UNDO", "@end System"),
)
#: What a terminal, a line or XML must not get from a node.
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@cache
def _recorded() -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads((SEEDS / "recording.json").read_text()))


@cache
def _kubernetes() -> dict[str, Any]:
    """The same run on nodes of a cluster, one of them with stale rules, with questions to the DNS service."""
    parts = copy.deepcopy(_recorded())
    fleet = kube_fleet.fleet()
    kube_fleet.incident(fleet["node-1"])
    parts["fleet"] = {name: {**parts["fleet"]["node-0"], **fleet[name]} for name in ("node-0", "node-1")}
    asked = probe(kube_fleet.VIP, "kubernetes.default.svc.cluster.local", tries=2)
    lost: Any = {"outcome": "timeout", "rtt_ms": None, "rcode": None, "answers": [], "detail": "nothing came"}
    result: Result = {"probe": asked, "carrier": "bash", "tries": [lost, lost]}
    parts["results"] = {name: [*parts["results"][name], result] for name in parts["fleet"]}
    parts["evidence"]["endpoints"] = {kube_fleet.VIP: ["10.244.0.11:53", "10.244.0.13:53"]}
    return parts


def parts(dice: random.Random) -> dict[str, Any]:
    """A recording as a bundle has it."""
    return copy.deepcopy(dice.choice((_recorded, _kubernetes))())


def bent(dice: random.Random, times: int = 12, *, addresses: bool = True) -> dict[str, Any]:
    """The same with some of its texts replaced or lengthened by hostile ones; keys of free mappings too.

    Words that a type names are left alone as a rule: anything else there is refused.

    + addresses: replace those too, which a fact would not let pass
    """
    made = parts(dice)
    spots = [
        (parent, key)
        for parent, key in _texts(made)
        if not (re.fullmatch("[A-Za-z ]{0,16}", parent[key]) and dice.random() < 0.98)
        and (addresses or not re.search(r"^[0-9.]+$|:[0-9a-f]*:|^[0-9.]+[/:]", parent[key]))
    ]
    for parent, key in dice.sample(spots, min(times, len(spots))):
        evil = dice.choice(HOSTILE)
        # A key may have been renamed meanwhile.
        if isinstance(parent, dict) and key not in parent:
            continue
        if isinstance(parent, dict) and isinstance(key, str) and re.search(r"[./: ]", key) and dice.random() < 0.5:
            parent[key + evil] = parent.pop(key)
        elif isinstance(parent[key], str):
            parent[key] = evil if dice.random() < 0.5 else parent[key] + evil
    return made


def _texts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every text's place: its parent and its key there."""
    for key, one in list(value.items() if isinstance(value, dict) else enumerate(value)):
        if isinstance(one, dict | list):
            yield from _texts(one)
        elif isinstance(one, str):
            yield value, key


@cache
def _policy() -> Policy:
    values = run_path("group_data/all.py")
    return policies.of_values({field.name: values[field.name] for field in fields(Policy)})


def judge(made: dict[str, Any]) -> Diagnosis | None:
    """Judge and tell in every form; None for a recording that is refused in one sentence, and must be."""
    try:
        seen = bundle.recorded(made)
    except PyinfraError as error:
        assert not RAW.search(str(error)) and "\n" not in str(error)
        return None
    diagnosis = cases.judged(seen)
    told(diagnosis, seen)
    return diagnosis


def told(diagnosis: Diagnosis, seen: Recorded) -> None:
    """Every report of it, and what each must not hold."""
    console = Console(file=StringIO(), width=100, force_terminal=False, highlight=False)
    terminal.summary(diagnosis, console)
    probe_table.show(seen.results, console)
    shown = cast(StringIO, console.file).getvalue()
    assert not RAW.search(shown), RAW.findall(shown)[:5]
    json.loads(json_report.render(diagnosis))
    page = html.render(diagnosis)
    _check_html(page)
    table = markdown.render(diagnosis)
    assert not RAW.search(table)
    for block in re.findall(r"(?:^\|.*\n)+", table, re.MULTILINE):
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(bars) == 1, f"a row was broken: {block[:300]}"
    assert not re.search(r"^\s*<(?!!--)|(?<!\\)\]\(|(?<!\\)<script", re.sub(r"(`{3,})\n.*?\n\1", "", table, flags=re.S))
    ElementTree.fromstring(junit.render(diagnosis))


def plan(made: dict[str, Any]) -> list[str]:
    """The shell scripts that a repair of these nodes would run: they are read from the nodes, not from a bundle."""
    fleet = cast("dict[str, Snapshot | None]", made["fleet"])
    policy = _policy()
    changes, refusals = rollout.needed(dict.fromkeys(fleet, policy), fleet, {}, 0)
    scripts: list[str] = []
    for change in changes.values():
        for one in change.dnsmasq:
            scripts.append(dnsmasq.script(one, "20261122T000000Z-abcd", 60))
            dnsmasq.payload(one, "20261122T000000Z-abcd")
    for read in filter(None, fleet.values()):
        proxy, flows = read["kube_proxy"]["value"], read["dns_flows"]["value"]
        try:
            scripts += [kube_proxy.restart_command(proxy), kube_proxy.again_command(proxy)] if proxy else []
        except Refused as reason:
            refusals.append(str(reason))
        scripts += [conntrack.delete_command(vip) for vip in conntrack.dns_flows(flows, vips(fleet, {}))]
        backends = read["alternatives"]["value"]
        if backends:
            selections = alternatives.selections(backends, "nft")
            commands = [each["name"] for each in backends["commands"]]
            scripts.append(alternatives.script(selections, commands, "nft", "20261122T000000Z-abcd", 60))
    pending = [found for name, change in changes.items() for found in drift._pending(name, change)]
    said: Any = {"nodes": list(fleet), "pending": pending, "errors": refusals}
    assert not RAW.search(drift_text(said))
    ElementTree.fromstring(drift_junit(said))
    return scripts


#: What the page's own template has: an element or attribute of any other name came from a node.
_ELEMENTS = frozenset(
    "html head meta title style body header main footer section article h1 h2 h3 h4 p a ul ol li dl dt dd table caption"
    " thead tbody tr th td svg g path rect text tspan defs marker polygon circle line details summary pre code strong"
    " em b span div br figure figcaption small time nav use desc link".split()
)


class _Elements(HTMLParser):
    """Elements and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.strange: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _ELEMENTS:
            self.strange.append(tag)
        for name, value in attrs:
            if name.startswith("on") or (
                name in ("href", "src") and value != "data:," and not (value or "").startswith("#")
            ):
                self.strange.append(f"{tag} {name}={value}")


def _check_html(page: str) -> None:
    assert not RAW.search(page)
    reader = _Elements()
    reader.feed(page)
    reader.close()
    assert not reader.strange, reader.strange[:5]


_ADDRESS = re.compile(rb"\d+\.\d+\.\d+\.\d+(?:/\d+)?|[0-9a-f]{0,4}:[0-9a-f:]*:[0-9a-f]+(?:/\d+)?")


def _some(found: list[re.Match[bytes]], dice: random.Random) -> list[re.Match[bytes]]:
    return dice.sample(found, min(3, len(found)))


def lied(dice: random.Random) -> dict[str, Any]:
    """A recording in which one node has sent something else: its raw answer was bent, and read by the facts."""
    made = parts(dice)
    answer = (SEEDS / "snapshot.txt").read_bytes()
    if dice.random() < 0.3:
        answer = mutated(answer, dice)
    # Most of what is computed with are addresses.
    for found in _some(list(_ADDRESS.finditer(answer)), dice):
        answer = answer.replace(found[0], found[0] + dice.choice(HOSTILE).encode("utf-8", "replace"), 1)
    read: Any = NodeSnapshot().process(lines(answer))
    made["fleet"]["node-0"] = read
    return made


def replay(made: dict[str, Any]) -> None:
    """As `--data replay=DIR`: a diagnosis with its reports, or one sentence."""
    try:
        seen = bundle.recorded(made)
        diagnosis = replays.judged(seen, "b")
    except PyinfraError as error:
        assert not RAW.search(str(error)) and "\n" not in str(error)
        return
    told(diagnosis, seen)
