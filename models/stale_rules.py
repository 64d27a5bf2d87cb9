"""Which of kube-proxy's and the kubelet's rules a backend holds that nobody keeps up any more.

Both iptables backends' rules apply to every packet, and each program looks after one backend only: what the other one
still holds goes on rewriting packets with the addresses of pods that are gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from facts.netfilter import Backend, Family, Ruleset
from facts.netfilter_chains import HINTS
from facts.netfilter_table import Table
from models.refused import Refused

#: The chains that the kubelet writes, wherever its iptables is: what a containerised kube-proxy looks for.
KUBELET_HINTS = ("KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY")


@dataclass(frozen=True)
class Stale:
    """Owned chains in one table of the losing backend, and the rules in them and into them.

    + chains, rules: how many
    + names: the chains' names; hashed: how many there are besides of KUBE-SVC-*, KUBE-SEP-* and so on, by kind
    + jumps: the rules of built-in chains that lead into them
    """

    backend: Backend
    family: Family
    table: str
    chains: int
    rules: int
    names: Sequence[str] = ()
    hashed: Mapping[str, int] = field(default_factory=dict)
    jumps: Sequence[str] = ()

    @property
    def command(self) -> str:
        """The command whose -save and -restore reach the table, as "ip6tables-nft"."""
        return command(self.backend, self.family)

    @property
    def removal(self) -> list[str]:
        """What the -restore command is given, in short: the jumps, then the chains with all that is in them."""
        chains = [*self.names, *(f"{count} KUBE-{kind}-*" for kind, count in sorted(self.hashed.items()))]
        deleted = [jump.replace("-A ", "-D ", 1) for jump in self.jumps]
        return [*deleted, f"-F and -X: {', '.join(chains)}"]

    def __str__(self) -> str:
        return f"{self.command} {self.table}: {self.chains} chains, {self.rules} rules"


def command(backend: Backend, family: Family) -> str:
    """The iptables command of a backend and family: "ip6tables-legacy"."""
    return f"{'iptables' if family == 4 else 'ip6tables'}-{backend}"


def other(backend: Backend) -> Backend:
    """The backend that loses where this one wins."""
    return "legacy" if backend == "nft" else "nft"


def stale(rulesets: Sequence[Ruleset], losing: Backend, hints_only: bool = False) -> list[Stale]:
    """What the losing backend holds of the allow-listed chains, table by table; empty for nothing.

    + rulesets: both backends and both families, as `facts.netfilter.KubeRules` reads them
    + hints_only: only the chains that tell which backend the kubelet and kube-proxy use

    Raises Refused where that cannot be known, or where a rule of somebody else's leads into an owned chain: it cannot
    be deleted while that rule is there, and the rule is not ours to delete.
    """
    found: list[Stale] = []
    for ruleset in rulesets:
        if ruleset["backend"] != losing:
            continue
        name = command(losing, ruleset["family"])
        if ruleset["state"] not in ("value", "empty"):
            why = f"{ruleset['state']}: {ruleset['detail']}".removesuffix(": ")
            raise Refused(f"{name}: its rules are not known: {why}")
        if ruleset["incompatible"]:
            tables = ", ".join(ruleset["incompatible"])
            raise Refused(f"{name}: the table {tables} holds rules that iptables cannot read; look at it with nft")
        for table in ruleset["tables"]:
            chains = [chain for chain in table["owned"] if not hints_only or chain in HINTS]
            if jumps := [rule for rule in table["foreign_jumps"] if not hints_only or rule["target"] in chains]:
                raise Refused(
                    f"{name}: a rule of somebody else's leads into {jumps[0]['target']}, which has to go: "
                    f"table {table['name']}: {jumps[0]['text']}"
                )
            count = len(chains) + (0 if hints_only else sum(table["hashed"].values()))
            if count:
                rules = 0 if hints_only else table["rules"].get("kube", 0)
                hashed = {} if hints_only else table["hashed"]
                links = [link["text"] for link in table["links"] if link["target"] in chains or not hints_only]
                found.append(Stale(losing, ruleset["family"], table["name"], count, rules, chains, hashed, links))
    return found


def left_alone(rulesets: Sequence[Ruleset], losing: Backend, switches: bool) -> str:
    """Why iptables is left alone here: the losing backend may hold rules, and the node has no tool to read them.

    + switches: whether the node's commands have to become another backend's

    "" where nothing keeps `stale` from telling. A container that brings its own iptables, or a CNI that loads a module,
    fills a backend that the host has no tool for; what else the node needs does not wait for that. Raises Refused where
    the commands have to change: what they would leave behind has to be known.
    """
    saves = [each for each in rulesets if each["backend"] == losing and each["state"] != "value"]
    missing = [each for each in saves if each["state"] == "tool missing"]
    if not missing or any(each["state"] not in ("empty", "tool missing") for each in saves):
        return ""
    tools = " and ".join(f"{command(losing, each['family'])}-save" for each in missing)
    tables = ", ".join(f"{table} for IPv{each['family']}" for each in missing for table in each["registered"])
    unknown = f"no {tools}, and what {losing} holds here is not known" + (f" (tables: {tables})" if tables else "")
    if switches:
        raise Refused(f"there is {unknown}: install the tool first, or leave iptables alone (iptables_backend = None)")
    return f"iptables is left alone: there is {unknown}"


def saved(rulesets: Sequence[Ruleset]) -> list[str]:
    """The commands whose backend and family hold tables: those that there is something to save of."""
    return [command(ruleset["backend"], ruleset["family"]) for ruleset in rulesets if ruleset["state"] == "value"]


def has_services(rulesets: Sequence[Ruleset], backend: Backend) -> bool:
    """Whether kube-proxy writes to this backend: its chain KUBE-SERVICES is in a nat table of it."""
    return any("KUBE-SERVICES" in table["owned"] for table in _tables(rulesets, backend) if table["name"] == "nat")


def kubelet_backends(rulesets: Sequence[Ruleset]) -> list[Backend]:
    """The backends that hold the kubelet's chains in a mangle table: two, where it changed over or one is stale.

    None where no kubelet writes any (makeIPTablesUtilChains: false).
    """
    backends: tuple[Backend, ...] = ("nft", "legacy")
    return [
        backend
        for backend in backends
        if any(
            chain in table["owned"]
            for table in _tables(rulesets, backend)
            if table["name"] == "mangle"
            for chain in KUBELET_HINTS
        )
    ]


def _tables(rulesets: Sequence[Ruleset], backend: Backend) -> list[Table]:
    return [table for ruleset in rulesets if ruleset["backend"] == backend for table in ruleset["tables"]]
