"""What a guard takes for the state to keep, and what it will not."""

from __future__ import annotations

import pytest

from models.guard import Selected, kubernetes_units, record
from models.refused import Refused
from tests.checks.kube_fleet import incident, node, set_host, without_kubernetes


def test_a_healthy_node_is_recorded_as_it_is() -> None:
    found = record(node(), None)
    assert found is not None
    assert (found.backend, found.other, found.commands) == ("legacy", "nft", ("iptables", "ip6tables"))
    assert found.groups == (
        Selected("iptables", "/usr/sbin/iptables-legacy", "manual"),
        Selected("ip6tables", "/usr/sbin/ip6tables-legacy", "manual"),
    )
    assert record(node(), "legacy") == found


def test_a_node_without_iptables_has_nothing_to_keep() -> None:
    read = node()
    without_kubernetes(read)
    assert record(read, "legacy") is None


def test_refusals() -> None:
    with pytest.raises(Refused, match="iptables is legacy, ip6tables is legacy, and the policy wants nft"):
        record(node(), "nft")
    read = node()
    set_host(read, "legacy", "nft")
    with pytest.raises(Refused, match="iptables is legacy, ip6tables is nft: there is no one backend to guard"):
        record(read, None)
    read = node()
    incident(read)
    with pytest.raises(
        Refused, match=r"iptables-nft \w+: \d+ chains, \d+ rules are stale .the node's iptables is legacy"
    ):
        record(read, None)
    read = node()
    read["rulesets"]["state"], read["rulesets"]["detail"] = "timed out", "30 s"
    with pytest.raises(Refused, match="its rulesets are not known: timed out: 30 s"):
        record(read, None)


def test_units_that_can_be_kept_from_starting() -> None:
    read = node()
    known = {"unit": "kubelet.service"}
    read["units"]["value"] = [{**read["units"]["value"][0], **known}]  # type: ignore[typeddict-item]
    assert kubernetes_units(read) == ["kubelet.service"]
