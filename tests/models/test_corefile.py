"""CoreDNS's upstreams, as Corefiles of all kinds have them."""

from __future__ import annotations

import pytest

from models.corefile import cluster_ports, forwarded, upstreams
from models.upstreams import chosen

KUBEADM = """\
.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . %s {
       max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}
"""


def found(corefile: str) -> list[tuple[str, str, int]]:
    return [(one.domain, one.address, one.port) for one in upstreams(corefile, ["172.25.4.1"]) if one.address]


def nobody(corefile: str) -> list[str]:
    return [one.domain for one in upstreams(corefile, ["172.25.4.1"]) if not one.address]


@pytest.mark.parametrize(
    ("servers", "wanted"),
    [
        ("/etc/resolv.conf", [("", "172.25.4.1", 53)]),
        ("172.25.4.1", [("", "172.25.4.1", 53)]),
        ("10.0.0.1:5353 dns://10.0.0.2 [fd00::1]:53 fd00::2", [
            ("", "10.0.0.1", 5353), ("", "10.0.0.2", 53), ("", "fd00::1", 53), ("", "fd00::2", 53)]),
        ("tls://9.9.9.9", []),
        ('"172.25.4.1" # the node', [("", "172.25.4.1", 53)]),
        ("{$UPSTREAM}", []),
    ],
)  # fmt: skip
def test_the_default_block(servers: str, wanted: list[tuple[str, str, int]]) -> None:
    assert found(KUBEADM % servers) == wanted


def test_blocks_of_their_own() -> None:
    corefile = KUBEADM % "172.25.4.1" + "zju.edu.cn:53 example.com {\n    forward . 10.10.0.21\n}\n"
    assert found(corefile) == [
        ("", "172.25.4.1", 53),
        ("zju.edu.cn", "10.10.0.21", 53),
        ("example.com", "10.10.0.21", 53),
    ]


def test_several_forwards_in_one_block() -> None:
    corefile = ". {\n  forward zju.edu.cn. 10.10.0.21\n  forward . 192.18.0.2\n}\n"
    assert found(corefile) == [("zju.edu.cn", "10.10.0.21", 53), ("", "192.18.0.2", 53)]


def test_zones_for_which_it_asks_nobody() -> None:
    assert nobody(KUBEADM % "172.25.4.1") == ["cluster.local"]
    assert nobody(KUBEADM % "172.25.4.1" + "corp.example {\n}\n") == ["cluster.local", "corp.example"]
    assert nobody("corp.example {\n  forward . 10.10.0.21\n}\n") == []
    given = upstreams(KUBEADM % "172.25.4.1" + "corp.example {\n}\n", [])
    assert chosen(given, "a.corp.example") == chosen(given, "kubernetes.default.svc.cluster.local") == []
    assert [one.address for one in chosen(given, "google.com")] == ["172.25.4.1"]


def test_what_does_not_count() -> None:
    assert found("(snippet) {\n  forward . 10.0.0.1\n}\n") == []
    # A port that nobody is sent to, whatever comes first.
    other = ".:5353 {\n  forward . 10.0.0.1\n}\n"
    assert found(KUBEADM % "172.25.4.1" + other) == found(other + KUBEADM % "172.25.4.1") == [("", "172.25.4.1", 53)]
    assert nobody(other.replace(".:", "corp.example:") + KUBEADM % "172.25.4.1") == ["cluster.local"]
    assert found("tls://.:853 {\n  forward . 10.0.0.1\n}\n") == []
    assert found("# .:53 {\n#  forward . 10.0.0.1\n# }\n") == []
    assert found("") == found("{ } } {") == []


OPENSHIFT = """\
.:5353 {
    bufsize 512
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
    }
    forward . /etc/resolv.conf {
        policy sequential
    }
}
hostname.bind:5353 {
    chaos
}
"""


def test_a_coredns_that_listens_on_another_port() -> None:
    assert found(OPENSHIFT) == found(OPENSHIFT.replace("5353", "53")) == [("", "172.25.4.1", 53)]
    assert nobody(OPENSHIFT) == ["cluster.local", "hostname.bind"]
    # Its own block tells the port, and others on it count; those on a third one do not.
    more = "zju.edu.cn:5353 {\n  forward . 10.10.0.21\n}\nexample.com:9053 {\n  forward . 10.0.0.1\n}\n"
    metrics = ".:9153 {\n  prometheus\n}\n"
    assert found(metrics + OPENSHIFT + more) == [("", "172.25.4.1", 53), ("zju.edu.cn", "10.10.0.21", 53)]
    assert found("tls://.:853 {\n  forward . 10.0.0.1\n}\n" + OPENSHIFT) == [("", "172.25.4.1", 53)]


def test_the_line_is_named() -> None:
    one, own = upstreams(KUBEADM % "/etc/resolv.conf", ["172.25.4.1"])
    assert own.because == "kubernetes cluster.local in-addr.arpa ip6.arpa in its Corefile"
    assert one.because == "forward . /etc/resolv.conf in its Corefile: nameserver 172.25.4.1 in its resolv.conf"
    one, _ = upstreams(KUBEADM % "172.25.4.1", [])
    assert one.because == "forward . 172.25.4.1 in its Corefile"


def test_everybody_that_a_line_forwards_to() -> None:
    """Also by a snippet, a block on another port, a part without a block, and over TLS."""
    text = """\
(up) {
    forward . 172.25.4.2
}
.:5353 {
    import up
    forward . 172.25.4.1 "172.25.4.1:5353" tls://9.9.9.9 tls://9.9.9.10:53 [fd25:0::1]:53 /etc/resolv.conf {
       max_concurrent 1000
    }
    # forward . 192.0.2.1
    proxy campus 10.10.0.21:5353 # and 192.0.2.2
    forward . 10.10.0.21:99999 __PILLAR__UPSTREAM__SERVERS__
}
"""
    ends = [("172.25.4.2", 53), ("172.25.4.1", 53), ("172.25.4.1", 5353), ("9.9.9.9", 853), ("9.9.9.10", 53)]
    ends += [("fd25::1", 53), ("/etc/resolv.conf", 0), ("10.10.0.21", 5353)]
    assert forwarded(text) == ends
    assert forwarded("forward . 172.25.4.1\n") == [("172.25.4.1", 53)]
    assert forwarded("10.0.0.1 node-0\n. {\n    forward .\n}\n") == []


@pytest.mark.parametrize(
    ("corefile", "ports"),
    [
        (KUBEADM % "172.25.4.1", [53]),
        # OpenShift's.
        (".:5353 {\n    kubernetes cluster.local in-addr.arpa {\n        pods insecure\n    }\n}\n", [5353]),
        ("example.org:1053 {\n    k8s_gateway example.org\n}\n", []),
        (". {\n    forward . kubernetes\n}\ncluster.local:53 b.local:5300, {\n    kubernetes\n}\n", [53, 5300]),
        ("(snippet) {\n    kubernetes cluster.local\n}\n", []),
        ("tls://. dns://.:54 {\n    kubernetes cluster.local {\n    }\n}\n", [54]),
        (".:99999 {\n    kubernetes cluster.local {\n    }\n}\n", []),
        ("{\n    kubernetes cluster.local\n}\n", []),
        ("}}}\nkubernetes {\nkubernetes\n", [53]),
        ("", []),
    ],
)
def test_the_ports_on_which_it_answers_for_the_cluster(corefile: str, ports: list[int]) -> None:
    assert cluster_ports(corefile) == ports
