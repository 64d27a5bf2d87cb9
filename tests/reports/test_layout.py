"""The picture's geometry: nothing on top of anything, nothing outside, whatever the path looks like."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from checks.diagnosis import Diagnosis
from reports import layout, path
from tests.reports import diagnoses
from tests.reports.diagnoses import hop


def drawn(diagnosis: Diagnosis, node: str = "node-0") -> layout.Picture:
    return layout.picture(path.of(diagnosis, node))


def apart(picture: layout.Picture) -> bool:
    """No box on another one, no label on another one, nothing outside."""
    boxes = [(one.x, one.y, layout.WIDTH, layout.HEIGHT) for one in picture.boxes]
    labels = [(one.x - one.width / 2, one.y - 10, one.width, 20) for one in picture.edges]
    for places in (boxes, labels):
        for (x, y, wide, tall), (other_x, other_y, other_wide, other_tall) in combinations(places, 2):
            if x < other_x + other_wide and other_x < x + wide and y < other_y + other_tall and other_y < y + tall:
                return False
    return all(
        x >= 0 and x + wide <= picture.width and y >= 0 and y + tall <= picture.height for x, y, wide, tall in boxes
    )


@pytest.mark.parametrize("name", diagnoses.ALL)
@pytest.mark.parametrize("node", ["node-0", "node-1"])
def test_nothing_covers_anything(name: str, node: str) -> None:
    assert apart(drawn(diagnoses.ALL[name](), node))


def test_a_long_edge_goes_between_the_boxes_of_a_column() -> None:
    picture = drawn(diagnoses.healthy())
    (long,) = (one for one in picture.edges if one.edge.start[2:] == ("host",) and one.edge.end[0] == "dnsmasq")
    straight = [tuple(map(float, part.split())) for part in re.findall(r"L([\d. ]+)", long.path)]
    assert len(straight) == 2, "through the columns of the service and of CoreDNS"
    for x, y in straight:
        column = [one for one in picture.boxes if one.x + layout.WIDTH == x]
        assert column and all(y < one.y or y > one.y + layout.HEIGHT for one in column)


def test_pods_that_fare_alike_are_one_box_and_another_one_is_not() -> None:
    made = diagnoses.healthy()
    made["hops"] += [
        hop("pod to service", "node-0", f"pod 10.244.0.{number}", diagnoses.SERVICE) for number in range(60, 70)
    ]
    made["hops"].append(hop("pod to service", "node-0", "pod 10.244.0.99", diagnoses.SERVICE, lost=20))
    names = [one.box.name for one in drawn(made).boxes if one.box.kind == "client"]
    assert sorted(names) == ["10 pods", "pod 10.244.0.5", "pod 10.244.0.99", "the host itself"]


def test_endpoints_of_other_nodes_go_on_to_their_own_dnsmasq() -> None:
    notes = {one.box.note for one in drawn(diagnoses.healthy()).boxes}
    assert {"CoreDNS on node-0", "CoreDNS on node-1", "dnsmasq on node-0", "dnsmasq on node-1"} <= notes


def test_a_loop_is_drawn() -> None:
    """dnsmasq that asks systemd-resolved, which asks dnsmasq."""
    made = diagnoses.healthy()
    made["hops"] = [
        hop("host to stub", "node-0", "host", "127.0.0.53", "node-0"),
        hop("host to dnsmasq", "node-0", "host", diagnoses.VIP, "node-0"),
        hop("dnsmasq to upstream", "node-0", "host", diagnoses.VIP, "node-0", lost=20),
    ]
    picture = drawn(made)
    assert any(one.edge.start == one.edge.end for one in picture.edges)
    assert apart(picture)


def test_too_many_hops_are_cut_and_those_that_lose_are_not() -> None:
    made = diagnoses.healthy()
    made["hops"] += [hop("dnsmasq to upstream", "node-0", "host", f"192.0.2.{number}") for number in range(200)]
    made["hops"][-1]["state"] = "loses"
    picture = drawn(made)
    assert picture.left > 100
    assert any(one.edge.state == "loses" and one.edge.end[1] == "192.0.2.199" for one in picture.edges)
    assert apart(picture)


def test_the_same_diagnosis_gives_the_same_picture() -> None:
    assert drawn(diagnoses.both()) == drawn(diagnoses.both())
