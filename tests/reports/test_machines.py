"""What programs read: JSON as its schema says, JUnit, and Markdown that no node can write in."""

from __future__ import annotations

import copy
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from junitparser import JUnitXml
from markdown_it import MarkdownIt

from deploys import cases
from reports import json_report, junit, markdown
from reports.schema import schema
from tests.reports import diagnoses

SCHEMA = Path(__file__).resolve().parent.parent.parent / "docs" / "diagnosis.schema.json"


@pytest.fixture(scope="module")
def published() -> Draft202012Validator:
    told = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(told)
    return Draft202012Validator(told)


@pytest.mark.parametrize("name", sorted(set(diagnoses.ALL) - {"large"}))
def test_json_is_as_the_published_schema_says(name: str, published: Draft202012Validator) -> None:
    text = json_report.render(diagnoses.ALL[name]())
    assert text.isascii() and not any(ord(character) < 32 for character in text.replace("\n", ""))
    assert list(published.iter_errors(json.loads(text))) == []


def test_the_published_schema_is_that_of_the_types() -> None:
    assert json.loads(SCHEMA.read_text()) == schema(), "make docs"


def test_every_object_of_the_schema_is_closed_and_every_property_is_known(published: Draft202012Validator) -> None:
    def objects(shape: Any) -> list[Any]:
        inner = shape.values() if isinstance(shape, dict) else shape if isinstance(shape, list) else []
        own = [shape] if isinstance(shape, dict) and shape.get("type") == "object" else []
        return own + [one for part in inner for one in objects(part)]

    found = objects(published.schema)
    assert len(found) > 8
    assert all("additionalProperties" in one for one in found)
    assert all(one["additionalProperties"] is False for one in found if "properties" in one)


def test_the_schema_takes_nothing_else(published: Draft202012Validator) -> None:
    """In each object: one key more, one less, another type."""
    made = diagnoses.both()
    made["hops"], made["before"] = made["hops"][:1], made["before"][:1]
    good = json.loads(json_report.render(made))
    places: list[list[Any]] = [[], ["hops", 0], ["hops", 0, "losses", 0], ["findings", 0], ["verdicts", 0]]
    places += [["verdicts", 0, "ruled_out", 0], ["timeline", 0], ["before", 0]]
    for place in places:
        for key in (*_at(good, place), "more"):
            without, other = copy.deepcopy(good), copy.deepcopy(good)
            _at(other, place)[key] = [{"more": {}}]
            assert list(published.iter_errors(other)), (place, key)
            if key not in ("more", "before"):
                del _at(without, place)[key]
                assert list(published.iter_errors(without)), (place, key)


def _at(value: Any, place: list[Any]) -> Any:
    for step in place:
        value = value[step]
    return value


def test_bytes_that_are_no_text_are_replaced_and_the_rest_is_verbatim() -> None:
    made = diagnoses.healthy()
    made["unseen"] = ["a\ud800b\x1bc\u202e"]
    assert json.loads(json_report.render(made))["unseen"] == ["a\ufffdb\x1bc\u202e"]


def test_an_earlier_report_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "before.json"
    path.write_text(json_report.render(diagnoses.healthy()))
    assert json_report.read(str(path)) == diagnoses.healthy()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is no diagnosis: it is not JSON"),
        ("[]", "is no diagnosis: it has no hops"),
        ('{"hops": [], "format": 2}', "is a diagnosis of format 2, this dnsmend reads 1"),
        (None, "No such file or directory"),
    ],
)
def test_what_is_no_earlier_report_is_said(text: str | None, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "before.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises((OSError, ValueError)) as error:
        json_report.read(str(path))
    assert str(error.value) == f"{path}: {sentence}"


def test_junit_counts_what_failed() -> None:
    report = JUnitXml.fromstring(junit.render(diagnoses.both()).encode())
    suites = {suite.name: suite for suite in report}
    assert set(suites) == {"verdicts", "node-0", "node-1", "node-2"}
    assert (suites["verdicts"].tests, suites["verdicts"].failures) == (2, 2)
    assert (suites["node-1"].failures, suites["node-1"].errors) == (2, 0)
    failed = next(case for case in suites["node-1"] if case.name.startswith("IPVS-001"))
    assert (
        failed.classname == "node-1" and failed.result[0].message == "20 questions were sent and IPVS has counted none"
    )
    warned = next(case for case in suites["node-2"] if case.name.startswith("DNSMASQ-004"))
    assert warned.is_passed and "warning: dnsmasq runs with an older" in (warned.system_out or "")
    told = next(iter(suites["verdicts"]))
    assert "fix: pyinfra inventory deploys/fix_dns.py --limit node-0 -y" in (told.system_out or "")
    assert "ruled out: IPTABLES-001" in (told.result[0].text or "")


def test_junit_says_unknown_as_error_and_an_unread_node_too() -> None:
    report = JUnitXml.fromstring(junit.render(diagnoses.unknowns()).encode())
    suites = {suite.name: suite for suite in report}
    unasked = [case for case in suites["node-1"] if case.name.startswith("hop: node-1, pod ")]
    assert unasked and all(case.is_error and case.result[0].message == "it could not be asked" for case in unasked)
    assert suites["node-1"].errors > len(unasked)
    assert [case.is_skipped for case in suites["unseen"]] == [True, True]
    assert [case.name for case in suites["node-2"] if case.is_error] == [
        "readable",
        "DNSMASQ-001: Queries for the cluster's DNS pass through IPVS",
    ]
    assert (report.failures, report.errors) == (0, 2 + suites["node-1"].errors)


def test_junit_skips_what_a_policy_seems_to_drop(published: Draft202012Validator) -> None:
    made = diagnoses.healthy()
    made["hops"][0] |= {"state": "unknown", "why": "a NetworkPolicy, as it seems"}
    suites = {suite.name: suite for suite in JUnitXml.fromstring(junit.render(made).encode())}
    (skipped,) = (case for case in suites[made["hops"][0]["node"]] if case.name.startswith("hop: "))
    assert skipped.is_skipped and skipped.result[0].message == "a NetworkPolicy, as it seems"
    assert list(published.iter_errors(json.loads(json_report.render(made)))) == []


@pytest.mark.parametrize("name", diagnoses.ALL)
def test_junit_is_green_where_all_is_well_and_nowhere_else(name: str) -> None:
    made = diagnoses.ALL[name]()
    report = JUnitXml.fromstring(junit.render(made).encode())
    assert bool(report.failures or report.errors) == (not cases.well(made))
    made["unseen"] = [cases.NOTHING_SERVES]
    assert JUnitXml.fromstring(junit.render(made).encode()).errors


def test_junit_of_a_hostile_node_is_xml() -> None:
    text = junit.render(diagnoses.hostile())
    ET.fromstring(text)
    assert "\x1b" not in text and "<script>" not in text
    assert len(text) < 200_000


def parsed(text: str) -> list[Any]:
    # With raw HTML, tables and links from bare addresses switched on, as the sites that show Markdown have it.
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    return [child for token in tokens for child in (token, *(token.children or []))]


def test_markdown_is_a_post_mortem() -> None:
    text = markdown.render(diagnoses.both())
    headings = [line for line in text.splitlines() if line.startswith("#") and not line.startswith("#!")]
    assert headings == [
        "# Cluster DNS: what was found",
        "## The fleet",
        "## Incident 1",
        "### Evidence",
        "### Ruled out",
        "### What to do",
        "## Incident 2",
        "### Evidence",
        "### Ruled out",
        "### What to do",
        "## Timeline",
        "## Before and after",
        "## Other findings",
    ]
    assert "| node-0, pod 10.244.0.11 -\\> 172.25.4.1:53 | 0% lost (0-16%) | 100% lost (84-100%) |" in text
    assert sum(token.type == "table_open" for token in parsed(text)) == 6
    times = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| 2026-")]
    assert times == sorted(times) and len(times) == 3


def test_markdown_of_a_hostile_node_has_no_markup_of_its_own() -> None:
    text = markdown.render(diagnoses.hostile())
    tokens = parsed(text)
    kinds = {token.type for token in tokens}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "code_inline"}
    headings = [tokens[at + 1].content for at, token in enumerate(tokens) if token.type == "heading_open"]
    assert not any("pwned" in heading for heading in headings)
    assert len({len(row) for row in _rows(tokens)}) <= 6
    prose = "".join(token.content for token in tokens if token.type == "text")
    assert "http://evil.example/z" in prose
    fences = re.compile(r"^(`{3,})\n.*?^\1$", re.DOTALL | re.MULTILINE)
    assert "://" not in fences.sub("", text), "GitHub would make a link of it"
    assert "\x1b" not in text and len(text) < 100_000


def _rows(tokens: list[Any]) -> list[list[str]]:
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("td_open", "th_open"):
            rows[-1].append(token.type)
    return rows


def test_a_healthy_fleet_has_a_short_post_mortem() -> None:
    text = markdown.render(diagnoses.healthy())
    assert "All is well: 23 hops on 3 nodes answer." in text and "## Incident" not in text
