"""What the node's awk makes of a save, and what is read from it."""

import shutil
import subprocess
from collections.abc import Callable

import pytest

from facts.netfilter import KubeRules
from facts.netfilter_chains import is_hashed, owner_of
from facts.netfilter_condense import AWK, MOST
from facts.netfilter_table import Table, dnat_targets, hints, read_rule

Sample = Callable[[str], list[str]]
Condense = Callable[[list[str]], dict[str, Table]]


#: A node may have any of these; those that this machine has are tried.
AWKS = [awk for awk in ("mawk", "gawk", "busybox awk") if shutil.which(awk.split()[0])]


@pytest.fixture(params=AWKS)
def condense(request: pytest.FixtureRequest) -> Condense:
    """Condense a save as a node would."""
    awk = str(request.param).split()

    def run(save: list[str]) -> dict[str, Table]:
        said = subprocess.run(
            [*awk, AWK], input="\n".join([*save, "@code 0", ""]), capture_output=True, text=True, env={"LC_ALL": "C"}
        )
        assert (said.returncode, said.stderr) == (0, "")
        ruleset = KubeRules().read(["save nft 4", *said.stdout.splitlines()])[0]
        assert ruleset["state"] == "value", ruleset["detail"]
        return {table["name"]: table for table in ruleset["tables"]}

    return run


def nat(*rules: str, chains: tuple[str, ...] = ()) -> list[str]:
    return [
        "*nat",
        ":PREROUTING ACCEPT [0:0]",
        ":OUTPUT ACCEPT [0:0]",
        *(f":{chain} - [0:0]" for chain in chains),
        *(f"[1:60] {rule}" for rule in rules),
        "COMMIT",
    ]


def test_the_incident(sample: Sample, condense: Condense) -> None:
    table = condense(sample("iptables-nft-save-c_incident.txt"))["nat"]
    assert table["owned"] == [
        "KUBE-KUBELET-CANARY",
        "KUBE-MARK-DROP",
        "KUBE-MARK-MASQ",
        "KUBE-NODEPORTS",
        "KUBE-POSTROUTING",
        "KUBE-PROXY-CANARY",
        "KUBE-SERVICES",
    ]
    assert table["hashed"] == {"SEP": 9, "SVC": 5}
    assert table["rules"] == {"kube": 47}
    assert hints(table) == ["KUBE-KUBELET-CANARY", "KUBE-PROXY-CANARY"]
    assert [(link["chain"], link["target"], link["packets"]) for link in table["links"]] == [
        ("PREROUTING", "KUBE-SERVICES", 170),
        ("OUTPUT", "KUBE-SERVICES", 13),
        ("POSTROUTING", "KUBE-POSTROUTING", 122),
    ]
    udp = [way for way in dnat_targets(table) if way["protocol"] == "udp"]
    assert [(way["vip"], way["to"], way["rule"]["packets"], way["owner"]) for way in udp] == [
        ("10.32.0.10", "10.244.0.11:53", 80, "kube"),
        ("10.32.0.10", "10.244.0.12:53", 90, "kube"),
    ]
    assert udp[1]["path"] == ["KUBE-SERVICES", "KUBE-SVC-TCOU7JCQXEZGVUNU", "KUBE-SEP-LSIUSH75GR7U3TUR"]
    assert udp[1]["entry"]["packets"] == 170
    assert udp[1]["rule"]["text"] == (
        '-A KUBE-SEP-LSIUSH75GR7U3TUR -p udp -m comment --comment "kube-system/kube-dns:dns" -m udp -j DNAT '
        "--to-destination 10.244.0.12:53"
    )
    assert sorted(way["to"] for way in dnat_targets(table) if way["protocol"] == "tcp") == [
        "10.244.0.11:53",
        "10.244.0.12:53",
    ]


@pytest.mark.parametrize("name", ["iptables-nft-save-c_mixed.txt", "iptables-legacy-save-c_mixed.txt"])
def test_a_mixed_ruleset(sample: Sample, condense: Condense, name: str) -> None:
    tables = condense(sample(name))
    assert {table: found["rules"] for table, found in tables.items()} == {
        "mangle": {"calico": 1, "admin": 1},
        "raw": {"calico": 1, "admin": 1},
        "filter": {"kube": 10, "docker": 2, "admin": 3},
        "nat": {"kube": 14, "cilium": 1, "cni": 1, "docker": 4, "flannel": 2, "admin": 1},
    }
    assert {table: found["chains"] for table, found in tables.items()} == {
        "mangle": {"calico": 1},
        "raw": {"calico": 1},
        "filter": {"docker": 1, "admin": 1},
        "nat": {"cilium": 1, "cni": 1, "docker": 1, "flannel": 1},
    }
    assert hints(tables["mangle"]) == ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY", "KUBE-PROXY-CANARY"]
    assert tables["nat"]["chain_names"]["cilium"] == ["CILIUM_PRE_nat"]
    assert tables["filter"]["policies"] == {"INPUT": "ACCEPT", "FORWARD": "ACCEPT", "OUTPUT": "ACCEPT"}
    assert not any(table["foreign_jumps"] or table["duplicates"] or table["cut"] for table in tables.values())
    # The kubelet's jumps have neither a comment nor a condition.
    assert [link["text"] for link in tables["filter"]["links"] if link["target"] == "KUBE-FIREWALL"] == [
        "-A INPUT -j KUBE-FIREWALL",
        "-A OUTPUT -j KUBE-FIREWALL",
    ]
    assert [way["to"] for way in dnat_targets(tables["nat"])] == ["10.244.0.99:53", "10.244.0.12:53"]
    assert [rule["target"] for rule in tables["raw"]["dns"]] == ["NOTRACK"]


def test_a_stale_dnat_that_is_alive_counts_packets(sample: Sample, condense: Condense) -> None:
    (way,) = dnat_targets(condense(sample("iptables-nft-save-c_stale_counters.txt"))["nat"])
    assert (way["vip"], way["to"], way["rule"]["packets"], way["rule"]["bytes"]) == (
        "10.32.0.10",
        "10.244.9.99:53",
        7,
        371,
    )


def test_both_backends_digest_the_same_foreign_rules_alike(sample: Sample, condense: Condense) -> None:
    nft = condense(sample("iptables-nft-save-c_mixed.txt"))
    legacy = condense(sample("iptables-legacy-save-c_mixed.txt"))
    for table in ("nat", "mangle", "raw", "filter"):
        assert len(nft[table]["foreign_digest"]) == 64
        assert nft[table]["foreign_digest"] == legacy[table]["foreign_digest"]


def test_the_digest_is_about_foreign_rules_and_their_order(condense: Condense) -> None:
    rules = ("-A OUTPUT -s 192.0.2.1/32 -j ACCEPT", "-A OUTPUT -s 192.0.2.2/32 -j ACCEPT")
    own = '-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES'

    def digest(*lines: str, chains: tuple[str, ...] = ()) -> str:
        return condense(nat(*lines, chains=chains))["nat"]["foreign_digest"]

    plain = digest(*rules)
    assert digest(own, *rules, "-A KUBE-SERVICES -j RETURN", chains=("KUBE-SERVICES",)) == plain
    assert digest(*reversed(rules)) != plain
    assert digest(rules[0]) != plain
    assert digest(*rules, chains=("ADMIN",)) != plain
    assert condense([line.replace("[1:60]", "[9:9]") for line in nat(*rules)])["nat"]["foreign_digest"] == plain


@pytest.mark.parametrize(
    "rule",
    [
        "-A ADMIN -s 198.51.100.0/24 -j KUBE-SERVICES",
        "-A ADMIN -s 198.51.100.0/24 -g KUBE-SVC-TCOU7JCQXEZGVUNU",
        "-A OUTPUT -d 192.0.2.1/32 -j KUBE-SERVICES",
        '-A OUTPUT -m comment --comment "for kubernetes" -j KUBE-SERVICES',
        '-A ADMIN -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
        "-A OUTPUT -s 192.0.2.1/32 -j KUBE-FIREWALL",
        '-A OUTPUT -m comment --comment "a \\" -j ACCEPT" -j KUBE-SERVICES',
    ],
)
def test_a_foreign_jump_into_an_owned_chain(condense: Condense, rule: str) -> None:
    owned = ("KUBE-SERVICES", "KUBE-FIREWALL", "KUBE-SVC-TCOU7JCQXEZGVUNU")
    table = condense(nat(rule, chains=("ADMIN", *owned)))["nat"]
    assert [(jump["text"], jump["packets"], jump["bytes"]) for jump in table["foreign_jumps"]] == [(rule, 1, 60)]
    assert (table["links"], table["rules"]) == ([], {"admin": 1})


@pytest.mark.parametrize(
    "rule",
    [
        '-A OUTPUT -m comment --comment "not -j KUBE-SERVICES" -j ACCEPT',
        '-A OUTPUT -m comment --comment "said \\"-j KUBE-SERVICES\\" here" -j ACCEPT',
        "-A OUTPUT -m comment --comment KUBE-SERVICES -j ACCEPT",
        "-A OUTPUT -j KUBE-ROUTER-OUTPUT",
        "-A OUTPUT -m comment --comment KUBE-SERVICES",
    ],
)
def test_no_jump_into_an_owned_chain(condense: Condense, rule: str) -> None:
    table = condense(nat(rule, chains=("KUBE-SERVICES", "KUBE-ROUTER-OUTPUT")))["nat"]
    assert (table["foreign_jumps"], table["links"]) == ([], [])


def test_what_stands_there_twice(condense: Condense) -> None:
    twice = "-A OUTPUT -s 192.0.2.1/32 -j ACCEPT"
    table = condense(nat(twice, "-A OUTPUT -j RETURN", twice, twice))["nat"]
    assert table["duplicates"] == [{"text": twice, "times": 3}]


def test_the_same_rule_in_two_tables_is_no_duplicate(condense: Condense) -> None:
    rule = "-A OUTPUT -j ACCEPT"
    tables = condense([*nat(rule), *(line.replace("*nat", "*filter") for line in nat(rule))])
    assert [table["duplicates"] for table in tables.values()] == [[], []]
    assert [table["rules"] for table in tables.values()] == [{"admin": 1}, {"admin": 1}]


def test_more_than_a_table_may_send_is_cut_and_told(condense: Condense) -> None:
    rules = [f"-A OUTPUT -d 10.0.{i // 250}.{i % 250}/32 -p udp --dport 53 -j ACCEPT" for i in range(MOST + 7)]
    table = condense(nat(*rules))["nat"]
    assert len(table["dns"]) == MOST
    assert table["cut"] == {"dns": MOST + 7}
    assert table["rules"] == {"admin": MOST + 7}


def test_every_way_to_a_service_with_another_name(condense: Condense) -> None:
    """The comment does not say kube-dns, and the endpoints stand before the service, as in a save."""
    chains = ("KUBE-SERVICES", "KUBE-EXT-AAAAAAAAAAAAAAAA", "KUBE-SVC-BBBBBBBBBBBBBBBB", "KUBE-SEP-CCCCCCCCCCCCCCCC")
    table = condense(
        nat(
            "-A KUBE-SEP-CCCCCCCCCCCCCCCC -p udp -m udp -j DNAT --to-destination [fd00::7]:1053",
            "-A KUBE-SERVICES -d fd00::a/128 -p udp -m udp --dport 53 -j KUBE-EXT-AAAAAAAAAAAAAAAA",
            "-A KUBE-EXT-AAAAAAAAAAAAAAAA -j KUBE-SVC-BBBBBBBBBBBBBBBB",
            "-A KUBE-SVC-BBBBBBBBBBBBBBBB -j KUBE-SEP-CCCCCCCCCCCCCCCC",
            chains=chains,
        )
    )["nat"]
    assert [(way["vip"], way["to"], way["path"]) for way in dnat_targets(table)] == [
        ("fd00::a", "[fd00::7]:1053", list(chains))
    ]


def test_somebody_elses_dnat_of_dns(condense: Condense) -> None:
    rule = "-A PREROUTING -p tcp -m multiport --dports 80,53 -j DNAT --to-destination 192.0.2.53"
    ways = dnat_targets(condense(nat(rule))["nat"])
    assert [(way["vip"], way["protocol"], way["to"], way["owner"]) for way in ways] == [
        ("", "tcp", "192.0.2.53", "admin")
    ]


def test_a_destination_that_is_excepted_is_not_the_vip(condense: Condense) -> None:
    rule = "-A PREROUTING ! -d 192.0.2.1/32 -p udp -m udp --dport 53 -j DNAT --to-destination 192.0.2.53"
    assert [way["vip"] for way in dnat_targets(condense(nat(rule))["nat"])] == [""]


@pytest.mark.parametrize("port", ["5353", "530", "153", "9153"])
def test_other_ports_are_not_dns(condense: Condense, port: str) -> None:
    assert condense(nat(f"-A OUTPUT -p udp -m udp --dport {port} -j ACCEPT"))["nat"]["dns"] == []


@pytest.mark.parametrize(
    ("chain", "owner"),
    [
        ("KUBE-SERVICES", "kube"),
        ("KUBE-IPTABLES-HINT", "kube"),
        ("KUBE-FIRE-WALL", "kube"),
        ("KUBE-SVC-TCOU7JCQXEZGVUNU", "kube"),
        ("KUBE-XLB-TCOU7JCQXEZGVUNU", "kube"),
        ("KUBE-SVC-TCOU7JCQXEZGVUN", "admin"),
        ("KUBE-SVC-TCOU7JCQXEZGVUNUX", "admin"),
        ("KUBE-SVC-tcou7jcqxezgvunu", "admin"),
        ("KUBE-ABC-TCOU7JCQXEZGVUNU", "admin"),
        ("KUBE-SERVICES-OLD", "admin"),
        ("MY-KUBE-SERVICES", "admin"),
        ("KUBE-ROUTER-INPUT", "kube-router"),
        ("KUBE-POD-FW-ABCDEFGHIJKLMNOP", "kube-router"),
        ("KUBE-NWPLCY-DEFAULT", "kube-router"),
        ("cali-PREROUTING", "calico"),
        ("CILIUM_POST_nat", "cilium"),
        ("OLD_CILIUM_INPUT", "cilium"),
        ("FLANNEL-FWD", "flannel"),
        ("CNI-HOSTPORT-DNAT", "cni"),
        ("DOCKER", "docker"),
        ("DOCKER-ISOLATION-STAGE-1", "docker"),
        ("DOCKERISH", "admin"),
        ("IN_public_allow", "firewalld"),
        ("FORWARD_direct", "firewalld"),
        ("INPUT_ZONES", "firewalld"),
        ("PREROUTING_POLICIES_pre", "firewalld"),
        ("LIBVIRT_FWI", "admin"),
    ],
)
def test_whose_a_chain_is(condense: Condense, chain: str, owner: str) -> None:
    """Python and awk agree."""
    table = condense(nat(f"-A {chain} -j RETURN", chains=(chain,)))["nat"]
    assert owner_of(chain) == owner
    assert table["rules"] == {owner: 1}
    kube = chain in table["owned"] or sum(table["hashed"].values()) == 1
    assert kube == (owner == "kube")
    assert is_hashed(chain) == (table["hashed"] != {})


def test_a_line_that_is_no_rule() -> None:
    with pytest.raises(ValueError, match="no rule with counters"):
        read_rule("-A OUTPUT -j ACCEPT")


def test_a_forwarded_packets_rules_are_sent(condense: Condense) -> None:
    rules = [
        ":FORWARD DROP [0:0]",
        ":A-FIRST - [0:0]",
        ":DEEP - [0:0]",
        ":KUBE-FIREWALL - [0:0]",
        ":KUBE-SERVICES - [0:0]",
        ":ELSEWHERE - [0:0]",
        '[1:60] -A FORWARD -m comment --comment "not -j ELSEWHERE" -j A-FIRST',
        "[1:60] -A FORWARD -j KUBE-SERVICES",
        "[2:60] -A A-FIRST -j DEEP",
        "[3:60] -A DEEP -j A-FIRST",
        "[4:60] -A ELSEWHERE -j ACCEPT",
        "[5:60] -A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP",
        "[6:60] -A KUBE-SERVICES -d 10.32.0.99/32 -j REJECT",
    ]
    tables = condense(["*filter", *rules, "COMMIT", "*nat", *rules, "COMMIT"])
    assert [rule["text"].split()[1] for rule in tables["filter"].get("passage", [])] == [
        "FORWARD",
        "FORWARD",
        "KUBE-FIREWALL",
        "A-FIRST",
        "DEEP",
    ]
    assert tables["nat"].get("passage") == []
