"""The facts about firewalls, neighbours, UDP and networkd: outputs as nodes gave them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from facts.image_iptables import ImageIptables
from facts.neighbours import NeighbourTables
from facts.networkd import Networkd
from facts.nft_hooks import MOST, NftHooks
from facts.reading import Reading
from facts.udp import Udp

# /proc/net/stat/arp_cache of a machine with two processors, kernel 6.18.
ARP = [
    "table 4 1024",
    "entries  allocs   destroys hash_grows lookups  hits     res_failed rcv_probes_mcast rcv_probes_ucast"
    " periodic_gc_runs forced_gc_runs unresolved_discards table_fulls",
    "00000071 00000b3b 00000c38 00000003   00004add 00001027 00000001   00000000         00000000         00000000"
    "         00000000       00000000            00000002",
    "00000071 00000b2c 000009be 00000003   0000479c 00001012 00000000   00000000         00000000         00000329"
    "         00000000       00000000            00000001",
]


def test_neighbours_are_summed_over_the_processors() -> None:
    found = NeighbourTables().read(
        [*ARP, "table 6 2048", ARP[1].rpartition(" ")[0], ARP[2].rpartition(" ")[0].rstrip()]
    )
    assert found == [
        {"family": 4, "entries": 113, "limit": 1024, "overflows": 3},
        {"family": 6, "entries": 113, "limit": 2048, "overflows": None},
    ]
    assert NeighbourTables().read([]) == []


def test_udp_of_both_families() -> None:
    names = (
        "Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors"
    )
    four = [names, "Udp: 1313 0 0 21 0 0 50 0 0"]
    assert Udp().read(four) == {"received": 1313, "bad_checksums": 50}
    six = ["Udp6InDatagrams                 \t7", "Udp6InCsumErrors                \t2"]
    assert Udp().read([*four, *six]) == {"received": 1320, "bad_checksums": 52}


def test_networkd() -> None:
    said = [
        "link 6 configured /etc/systemd/network/99-pods.network",
        "link 9 configuring /run/systemd/network/with space.network",
        "name 6 lxcfdb6029c76ff",
        "name 8 flannel.1",
        "foreign ManageForeignRoutes no",
        "policy 8 /usr/lib/systemd/network/99-default.link persistent",
    ]
    assert Networkd().read(said) == {
        "links": [
            {"name": "lxcfdb6029c76ff", "state": "configured", "file": "/etc/systemd/network/99-pods.network"},
            {"name": "link 9", "state": "configuring", "file": "/run/systemd/network/with space.network"},
        ],
        "foreign": {"ManageForeignRoutes": "no"},
        "policies": [
            {"name": "flannel.1", "file": "/usr/lib/systemd/network/99-default.link", "policy": "persistent"},
        ],
    }
    assert Networkd().read(["name 1 lo"]) is None


# In a mount namespace of its own, which ends with the process.
IMAGE = r"""
mount -t tmpfs none /mnt
mkdir -p /mnt/usr/sbin /mnt/usr/lib /mnt/lib /mnt/lib64
for folder in lib lib64 usr/lib; do mount --bind "/$folder" "/mnt/$folder"; done
cp "$(readlink -f "$(command -v iptables-nft)")" /mnt/usr/sbin/xtables-nft-multi
cp /usr/bin/sleep /mnt/kube-proxy
echo ready
exec chroot /mnt /kube-proxy 60
"""


def test_the_iptables_of_an_image() -> None:
    expected = subprocess.run(["iptables", "-V"], capture_output=True, text=True, check=True).stdout.split()[1][1:]
    run = ["unshare", "--mount", "--propagation=private", "sh", "-ec", IMAGE]
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as image:
        assert image.stdout is not None
        assert image.stdout.readline() == "ready\n"
        while Path(f"/proc/{image.pid}/comm").read_text() != "kube-proxy\n":
            assert image.poll() is None
        said = subprocess.run(["sh", "-c", ImageIptables().command()], capture_output=True, text=True, check=True)
        image.kill()
    assert ImageIptables().process(said.stdout.splitlines()) == {"state": "value", "value": expected, "detail": ""}
    assert ImageIptables().read([]) == ""


RULESET = """\
table ip filter {
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
    }
}
table inet firewalld {
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state established counter accept
        jump other
        reject with icmpx admin-prohibited
    }
    chain nat_PREROUTING {
        type nat hook prerouting priority dstnat + 10; policy accept;
    }
    chain other {
        accept
    }
}
table inet closed {
    chain input {
        type filter hook input priority -5; policy drop;
    }
}
"""


def in_a_namespace(ruleset: str) -> Reading[list[object]]:
    """The fact on a network namespace of its own with these rules."""
    command = 'nft -f - && exec sh -c "$1"'
    run = ["unshare", "--net", "sh", "-ec", command, "sh", NftHooks().command()]
    done = subprocess.run(run, input=ruleset, capture_output=True, text=True, check=True)
    return NftHooks().process(done.stdout.splitlines())  # type: ignore[return-value]


def test_native_chains_of_a_real_kernel() -> None:
    read = in_a_namespace(RULESET)
    assert read["state"] == "value"
    assert read["value"] == [
        {
            "table": "inet firewalld",
            "chain": "filter_FORWARD",
            "hook": "forward",
            "policy": "accept",
            "rules": ["ct state established accept", "jump other", "reject with icmpx admin-prohibited"],
        },
        {"table": "inet closed", "chain": "input", "hook": "input", "policy": "drop", "rules": []},
    ]


def test_many_native_chains_are_cut_and_told() -> None:
    chains = "".join(f"chain c{i} {{ type filter hook input priority {i}; }}\n" for i in range(MOST + 3))
    read = in_a_namespace(f"table inet many {{\n{chains}}}\n")
    assert len(read["value"]) == MOST
    assert f"truncated: {MOST} of {MOST + 3} chains" in read["detail"]


@pytest.mark.parametrize("line", ["hook", "chain inet firewalld x forward accept", "nonsense a b c d e"])
def test_what_is_not_understood_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match=r"unpack|unknown line"):
        NftHooks().read([line])
