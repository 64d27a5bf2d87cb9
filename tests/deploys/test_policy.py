"""Words that are misspelt: of the policy everywhere, of a deploy's options where they are typed."""

from __future__ import annotations

import re

import pytest
from pyinfra.api.host import Host

from deploys import policy as policies
from deploys.policy import PolicyError
from tests.deploys.test_endpoints import hosts


def typed(**data: object) -> Host:
    """A node that was given this by `--data`."""
    node = hosts()[0]
    node.inventory.override_data = data
    return node


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("pseudonym", "pseudonyms"),
        ("removed", "remove"),
        ("enforced", "enforce"),
        ("bundles", "bundle"),
        ("replays", "replay"),
        ("new_node", "new_nodes"),
        ("probe_trys", "probe_tries"),
    ],
)
def test_a_misspelt_option_is_refused_as_a_misspelt_key_is(word: str, meant: str) -> None:
    said = f"^--data {word}: there is no such key; did you mean {meant}\\?$"
    with pytest.raises(PolicyError, match=said):
        policies.of(typed(**{word: True}))
    with pytest.raises(PolicyError, match=said):
        policies.switch(typed(**{word: True}), "remove")


def test_an_inventory_may_have_words_that_are_like_an_option() -> None:
    assert policies.of(hosts(removed=True, runs=3, bundles=[])[0]).canary_nodes
    with pytest.raises(PolicyError, match="did you mean canary_nodes"):
        policies.of(hosts(canary_node=1)[0])


def test_an_address_is_compared_with_what_the_kernel_says() -> None:
    policy = policies.of(hosts(dns_vips=["FD25:0::1", "172.25.4.1"], dns_services=("FD00::0A",))[0])
    assert (policy.dns_vips, policy.dns_services) == (("fd25::1", "172.25.4.1"), ("fd00::a",))
    assert policies.of(hosts(dns_vips=None)[0]).dns_vips is None


def test_options_are_no_misspelt_keys() -> None:
    assert policies.of(typed(**dict.fromkeys(policies.OPTIONS, True)))
    assert policies.switch(typed(remove=True), "remove")


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("iptables_backend", "must be None (null with --data) or one of legacy, nft"),
        ("kubectl", "must be None (null with --data)"),
        ("capture", "must be None (null with --data)"),
    ],
)
def test_the_text_none_is_not_none(key: str, sentence: str) -> None:
    """pyinfra gives `--data kubectl=None` as this text, a good name for a program."""
    with pytest.raises(PolicyError, match=re.escape(f"--data {key} = 'None': {sentence}")):
        policies.of(typed(**{key: "None"}))
    assert policies.of(typed(**{key: None}))
