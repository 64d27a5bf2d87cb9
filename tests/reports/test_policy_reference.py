"""docs/policy.md: every key of the policy is explained, with what its rule says that it may be."""

from __future__ import annotations

from dataclasses import fields

import pytest

from deploys.policy import Policy
from reports import policy_reference
from reports.docs import ROOT

POLICY = (ROOT / "group_data/all.py").read_text()
RULES = (ROOT / "deploys/policy_rules.py").read_text()

SMALL = '''"""A policy."""

# --- What is asked ---

# Questions, and the
# seconds *each*: `a*b`
#   "one"  the first
# and so on.
tries = 20  # inline
deadline = 2.0

# A list.
names: list[str] = ["a|b"]
'''


def test_every_key_of_the_policy_is_documented_and_no_other() -> None:
    """`_sudo` and `ssh_...` are pyinfra's own."""
    documented = [
        key
        for section in policy_reference.sections(POLICY)
        for entry in section.entries
        for key, _ in entry.keys
        if not key.startswith(("_", "ssh_"))
    ]
    assert len(documented) == len(set(documented))
    assert set(documented) == {each.name for each in fields(Policy)}


def test_every_key_says_what_it_may_be() -> None:
    kinds = policy_reference.kinds(RULES)
    assert set(kinds) == {each.name for each in fields(Policy)}
    assert kinds["undo_after"] == "a whole number from 30 to 3600"
    assert kinds["wave_nodes"] == "a whole number from 1, or a share from 1% to 100%"
    assert kinds["dns_vips"] == "None, or a list of IP addresses"
    assert kinds["iptables_backend"] == "None, or one of those below"
    assert kinds["dnsmasq_foreign_interfaces"] == "a list of names"
    assert kinds["cluster_objects"] == "a list of those below"
    assert kinds["cluster_drain"] == "True or False"


def test_keys_go_with_the_comment_above_them() -> None:
    (section,) = policy_reference.sections(SMALL)
    assert section.title == "What is asked"
    assert [entry.keys for entry in section.entries] == [
        [("tries", "20"), ("deadline", "2.0")],
        [("names", '["a|b"]')],
    ]
    assert section.entries[1].text == "A list."


def test_a_comment_keeps_its_lists_and_no_markup_comes_out_of_it() -> None:
    page = policy_reference.page(SMALL, RULES)
    assert '\nseconds \\*each\\*: `a*b`\n\n    "one"  the first\n\nand so on.\n' in page
    assert "\n### `tries`, `deadline`\n\n- `tries = 20`: a whole number\n- `deadline = 2.0`: a number\n" in page
    assert '- `names = ["a|b"]`: as pyinfra\'s documentation says' in page


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        ("tries = 20\n", "line 1: tries stands above the first heading"),
        ("# --- A ---\n\ntries = 20\n", "line 3: tries has no comment"),
        ("# --- A ---\n\n# Some.\na = 1\n\nb = 2\n", "line 6: b has no comment"),
    ],
)
def test_a_key_that_nothing_explains_is_an_error(policy: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        policy_reference.page(policy, RULES)
