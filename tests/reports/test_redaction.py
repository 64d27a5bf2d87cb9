"""Secrets are out, whatever holds them; what is no secret stays as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reports import redaction

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl"

SECRETS = [
    ("--token=hunter2-abc", "hunter2-abc"),
    ("kubelet --bootstrap-token hunter2 --v=2", "hunter2"),
    ("password: 'hunter two'", "hunter two"),
    ('{"client_secret": "hunter2", "a": 1}', "hunter2"),
    ("DB_PASSWORD=hunter2 PATH=/bin", "hunter2"),
    ("Authorization: Bearer hunter2hunter2", "hunter2"),
    ("curl -H 'authorization=Basic aHVudGVyMjpodW50ZXIy'", "aHVudGVyMjpodW50ZXIy"),
    (f"a {JWT} in a log", "eyJhbGci"),
    ("server=https://admin:hunter2@10.0.0.1/x", "hunter2"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIEhunter2\n-----END RSA PRIVATE KEY-----", "MIIEhunter2"),
    ("-----BEGIN PRIVATE KEY-----\nMIIEhunter2 cut off", "MIIEhunter2"),
    ("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
    ("remote: ghp_0123456789abcdefghij", "ghp_0123456789"),
    ("kubeadm join --discovery abcdef.0123456789abcdef", "0123456789abcdef"),
    ("api_key = hunter2", "hunter2"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_a_secret_is_out(text: str, secret: str) -> None:
    shown = redaction.text(text)
    assert secret not in shown and redaction.REDACTED in shown


@pytest.mark.parametrize(
    "text",
    [
        "--kubeconfig=/etc/kubernetes/kubelet.conf --tls-private-key-file=/etc/x.key",
        "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "net.ipv4.tcp_fastopen_key",
        "except-interface=cilium_*",
        "-A KUBE-SEP-X -p udp -m udp -j DNAT --to-destination 10.244.0.12:53",
        "2 google.com. A: read udp 10.244.0.11:4->172.25.4.1:53: i/o timeout",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redaction.text(text) == text


def test_under_a_key_and_after_an_option() -> None:
    given = {"argv": ["x", "--token", "hunter2", "--v", "2"], "ssh_password": "hunter2", "token_file": "/x", "n": 1}
    assert redaction.everything(given) == {
        "argv": ["x", "--token", redaction.REDACTED, "--v", "2"],
        "ssh_password": redaction.REDACTED,
        "token_file": "/x",
        "n": 1,
    }


def test_a_recorded_fleet_holds_none_and_stays_as_it_is() -> None:
    fleet = json.loads((FIXTURES / "fleet.json").read_text())
    assert redaction.everything(fleet) == fleet


@pytest.mark.parametrize("piece", ["eyJ-", "token", "-.", "://a:", "--token ", "a" * 40 + ".", "bearer ", "password="])
def test_a_hostile_line_does_not_stop_it(piece: str) -> None:
    """A line as long as a whole file may be; without bounds in the expressions this takes hours."""
    assert redaction.text(piece * (250_000 // len(piece)))
