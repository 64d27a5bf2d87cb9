"""kubectl fails in one clear sentence, whatever it fails of; nothing that failed looks like an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from facts import kubectl
from facts.kubectl import Kubectl, KubectlAnswer, KubectlError, sentence


def program(folder: Path, text: str) -> Kubectl:
    file = folder / "kubectl"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return Kubectl(str(file))


# As kubectl 1.20 says it, recorded; the last three from client-go's sources.
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "Warning: discovery.k8s.io/v1beta1 EndpointSlice is deprecated in v1.22+\n"
            "The connection to the server 198.18.53.2:6444 was refused - did you specify the right host or port?",
            "the API server is not reached from the controller: The connection to the server",
        ),
        (
            'Error from server (Forbidden): services is forbidden: User "nobody" cannot list resource "services"',
            "the API server does not allow it: Error from server",
        ),
        (
            "error: You must be logged in to the server (Unauthorized)",
            "the API server does not know the kubeconfig's user: error",
        ),
        ("Unable to connect to the server: dial tcp 10.0.0.1:6443: i/o timeout", "the API server is not reached"),
        ("error: error loading config file: EOF", "kubectl on the controller: error: error loading config file: EOF"),
        (
            'Error from server (NotFound): nodes "x" not found',
            "kubectl on the controller: Error from server (NotFound)",
        ),
        ("", "kubectl on the controller: it failed without a word"),
    ],
)
def test_why(words: str, expected: str) -> None:
    assert sentence(words, "the controller").startswith(expected)
    assert "\n" not in sentence(words, "the controller")


def test_a_missing_kubectl() -> None:
    with pytest.raises(KubectlError, match="there is no kubectl on the controller: /no/kubectl: No such file"):
        Kubectl("/no/kubectl").get("nodes")


def test_a_kubectl_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubectl, "_OVERHEAD", 0)
    with pytest.raises(KubectlError, match="did not end within 1 s"):
        program(tmp_path, "exec sleep 60").run("get", "nodes", timeout=1)


@pytest.mark.parametrize("said", ["", "Error", '{"items": ['])
def test_an_answer_that_is_not_json(tmp_path: Path, said: str) -> None:
    with pytest.raises(KubectlError, match="did not answer with JSON"):
        program(tmp_path, f"echo '{said}'").get("nodes")


def test_an_answer_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubectl, "_LONGEST", 10)
    with pytest.raises(KubectlError, match="too long"):
        program(tmp_path, "echo 12345678901234567890").run("get", "nodes")


def test_every_call_is_bounded_and_knows_its_kubeconfig() -> None:
    assert Kubectl("kubectl", "/k").argv(["get", "nodes"]) == [
        "kubectl",
        "--kubeconfig=/k",
        "--request-timeout=15s",
        "get",
        "nodes",
    ]
    assert Kubectl().argv(["x"])[1] == "--request-timeout=15s"


def test_may(tmp_path: Path) -> None:
    assert program(tmp_path, "exit 0").may("patch", "nodes")
    assert not program(tmp_path, "echo 'Warning: no namespace' >&2; exit 1").may("patch", "nodes")
    with pytest.raises(KubectlError, match="Unauthorized"):
        program(tmp_path, "echo 'error: (Unauthorized)' >&2; exit 1").may("patch", "nodes")


def test_no_kubectl_is_no_way() -> None:
    assert kubectl.of(None, "/k", None) is None
    assert kubectl.of("kubectl", None, None) == Kubectl("kubectl", None, None)


def test_on_a_node_the_command_is_quoted_and_cut() -> None:
    fact = KubectlAnswer()
    text = fact.command("kubectl get 'a b'", 20)
    assert fact.limit == 20
    assert "head -c" in text and "section KubectlAnswer 20" in text
