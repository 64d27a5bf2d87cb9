"""The page is opened in a real browser: it is whole, quiet, alone, and says what the diagnosis says."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from checks.diagnosis import Diagnosis
from reports import html
from tests.reports import diagnoses
from tests.reports.browser import Opened, open_page


def opened(diagnosis: Diagnosis, folder: Path) -> Opened:
    page = folder / "report.html"
    page.write_text(html.render(diagnosis), encoding="utf-8")
    return open_page(page, folder)


def pictures(document: str) -> list[ET.Element]:
    """The paths that are drawn, not the signs of the key."""
    found = re.findall(r"<svg\b.*?</svg>", document, re.DOTALL)
    return [ET.fromstring(one.replace("&nbsp;", " ")) for one in found if 'role="img"' in one]


def of_class(picture: ET.Element, *names: str) -> list[ET.Element]:
    return [one for one in picture.iter() if set(names) <= set((one.get("class") or "").split())]


def texts(picture: ET.Element, name: str) -> list[str]:
    return ["".join(one.itertext()).strip() for one in of_class(picture, name)]


@pytest.mark.parametrize("name", diagnoses.ALL)
def test_a_browser_opens_it_without_a_complaint_and_without_a_request(name: str, tmp_path: Path) -> None:
    page = opened(diagnoses.ALL[name](), tmp_path)
    assert page.console == []
    assert page.requests == set()
    assert "</main>" in page.document


def test_a_browser_that_complains_or_loads_something_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text("<script>console.error('boom')</script><img src='http://evil.example/x.png'>")
    seen = open_page(page, tmp_path)
    assert any("boom" in line for line in seen.console)
    assert seen.requests == {"http://evil.example/x.png"}


def test_the_path_is_drawn_with_its_first_losing_hop(tmp_path: Path) -> None:
    (drawn,) = pictures(opened(diagnoses.cilium(), tmp_path).document)
    assert texts(drawn, "kind") == ["client", "service", "CoreDNS", "dnsmasq", "upstream"]
    names = texts(drawn, "name")
    assert {"10.32.0.10", "10.244.0.11", "10.244.1.13", "172.25.4.1", "172.28.0.2", "192.18.0.2"} <= set(names)
    (first,) = of_class(drawn, "edge", "first")
    assert "loses" in first.get("class", "") and "pod 10.244.0.11 -> 172.25.4.1:53" in "".join(first.itertext())
    labels = texts(drawn, "label")
    assert sum("100% lost" in label and "first loss, incident 1" in label for label in labels) == 1
    assert sum("50% lost" in label for label in labels) == 1
    title, desc = (drawn.find(f".//*[@id='{one}']") for one in (drawn.get("aria-labelledby") or "").split())
    assert title is not None and "node-0" in (title.text or "")
    assert desc is not None and "20 of 20 lost" in (desc.text or "")


def test_what_is_drawn_is_told_without_colour_too(tmp_path: Path) -> None:
    """Every edge has a label in words; unknown and loss have lines of their own."""
    (drawn,) = pictures(opened(diagnoses.unknowns(), tmp_path).document)
    edges, labels = of_class(drawn, "edge"), texts(drawn, "label")
    assert len(edges) == len(labels) > 5
    assert sum("unknown" in label.split("\n")[-1] for label in labels) == 4
    page = html.render(diagnoses.unknowns())
    assert re.search(r"\.edge\.unknown \{[^}]*stroke-dasharray", page)
    assert re.search(r"\.edge\.loses \{[^}]*stroke-width: 3", page)


def test_light_and_dark(tmp_path: Path) -> None:
    page = html.render(diagnoses.healthy())
    assert "prefers-color-scheme: dark" in page and 'content="light dark"' in page


def test_text_of_a_node_stays_text(tmp_path: Path) -> None:
    document = opened(diagnoses.hostile(), tmp_path).document
    assert "alert('pwned')" in document
    assert not re.search(r"<(script|img|iframe|object|embed|a|form)\b", document)
    assert " onerror=" not in re.sub(r">[^<]*<", "><", document)
    assert len(document) < 300_000
    for character in "\x1b\x07\x9b\u202e\u2066\ud800":
        assert character not in document


def test_a_thousand_nodes_are_a_page_that_can_be_read() -> None:
    page = html.render(diagnoses.large())
    assert "and 989 more, all ok" in page and "and 4 more, not read either" in page
    assert page.count("<svg") < 12 and len(page) < 200_000


def test_a_healthy_fleet_says_so() -> None:
    page = html.render(diagnoses.healthy())
    assert "All is well: 23 hops on 3 nodes answer." in page
    assert 'class="card banner ok"' in page


def test_unknown_is_never_well() -> None:
    assert 'class="card banner unknown"' in html.render(diagnoses.unknowns())
    nothing = diagnoses.healthy()
    nothing["hops"] = []
    assert 'class="card banner unknown"' in html.render(nothing)
