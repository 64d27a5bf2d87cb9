"""What others than iptables have hooked into the packets that a node receives and forwards: native nftables chains."""

from __future__ import annotations

from typing import TypedDict

from typing_extensions import override

from facts.netfilter import TOOLS
from facts.reading import NodeFact


class Hook(TypedDict):
    """One base chain of type filter at the hooks `input` and `forward`, outside the tables of iptables.

    `table` is family and name ("inet firewalld"), `policy` "accept" or "drop". `rules` are the last of its rules, in
    nft's words without counters: what decides about a packet that no rule before has taken.
    """

    table: str
    chain: str
    hook: str
    policy: str
    rules: list[str]


#: Base chains, and rules of each.
MOST = 20
MOST_RULES = 20


class NftHooks(NodeFact[list[Hook]]):
    """The native nftables chains that filter what the node receives and forwards: firewalld's, an administrator's.

    Those of iptables are in `KubeRules`. Source: nft(8).

    .. code:: python

        [{"table": "inet firewalld", "chain": "filter_FORWARD", "hook": "forward", "policy": "accept",
          "rules": ["ct state { established, related } accept", ..., "reject with icmpx admin-prohibited"]}]
    """

    limit = 20

    # One question for all chains; then one for each base chain that is found, which are few.
    script = rf"""{TOOLS}
command -v nft >/dev/null || {{ echo "nft not found" >&2; exit 127; }}
no_nft && exit 0
chains=$(nft list chains) || exit $?
printf '%s\n' "$chains" | awk '
    $1 == "table" {{ table = $2 " " $3; next }}
    $1 == "chain" {{ chain = $2; next }}
    $1 == "type" && $2 == "filter" && ($4 == "input" || $4 == "forward") {{
        if (table ~ /^ip6? (filter|nat|mangle|raw|security)$/) next
        policy = "accept"
        for (i = 5; i < NF; i++) if ($i == "policy") {{ policy = $(i + 1); sub(/;$/, "", policy) }}
        if (++found <= {MOST}) print table, chain, $4, policy
    }}
    END {{ if (found > {MOST}) print "truncated: {MOST} of " found " chains" > "/dev/stderr" }}' |
    while read -r family table chain hook policy; do
        echo "hook $family $table $chain $hook $policy"
        # A file's name or a sign that the shell knows cannot come of it: these are words of nft, and are quoted.
        nft list chain "$family" "$table" "$chain" | sed -n \
            -e '/^\t\t/!d' -e '/^\t\ttype /d' -e 's/ counter packets [0-9]* bytes [0-9]*//' -e 's/^\t\t/= /p' |
            tail -n {MOST_RULES}
    done
"""

    @override
    def read(self, output: list[str]) -> list[Hook]:
        found: list[Hook] = []
        for line in filter(None, output):
            if line.startswith("= "):
                found[-1]["rules"].append(line[2:])
                continue
            word, family, table, chain, hook, policy = line.split()
            if word != "hook":
                raise ValueError(f"unknown line {line!r}")
            found.append({"table": f"{family} {table}", "chain": chain, "hook": hook, "policy": policy, "rules": []})
        return found
