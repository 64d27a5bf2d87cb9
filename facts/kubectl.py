"""How the cluster's API is asked: kubectl on the controller, or on a node over SSH. Every call is bounded."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.facts import get_fact
from pyinfra.api.host import Host
from typing_extensions import override

from facts.reading import NodeFact, Reading

#: Seconds that the API server may take to answer one request.
REQUEST = 15
#: Seconds beyond that for kubectl to start and to end: a control-plane node in trouble is slow.
_OVERHEAD = 30
#: Bytes of one answer: 5000 nodes with their images are less.
_LONGEST = 64_000_000
#: Where kubeadm leaves the administrator's kubeconfig on a control-plane node.
NODE_KUBECONFIG = "/etc/kubernetes/admin.conf"

#: On a node nothing is to be left below ~/.kube/cache: kubectl does without where it can make no folder.
_NO_CACHE = "/dev/null/none"

#: What kubectl (client-go) says where the API server did not answer at all.
_UNREACHED = (
    "unable to connect to the server",
    "was refused - did you specify",
    "i/o timeout",
    "context deadline exceeded",
    "client.timeout exceeded",
    "tls handshake timeout",
    "no route to host",
    "network is unreachable",
    "etcdserver: request timed out",
)
#: Where kubectl failed without a word.
_NO_WORDS = "it failed without a word"


class KubectlError(Exception):
    """kubectl brought nothing back; the message is one sentence that says why. What was asked for is unknown."""


class KubectlAnswer(NodeFact[str]):
    """What one kubectl command prints on a node. A fact for the way: sudo, time limit, and what went wrong.

    + script: the whole command, quoted for sh
    + limit: seconds
    """

    @staticmethod
    @override
    def nothing() -> str:
        return ""

    @override
    def command(self, script: str = "false", limit: int = REQUEST) -> str:
        self.script = f'answer=$({script}) || exit $?; printf "%s\\n" "$answer" | head -c {_LONGEST}'
        self.limit = limit
        return super().command()

    @override
    def read(self, output: list[str]) -> str:
        return "\n".join(output)


@dataclass(frozen=True)
class Kubectl:
    """The way to the cluster's API.

    + program: kubectl, found in the PATH, or with its path
    + kubeconfig: None for kubectl's own choice on the controller, and /etc/kubernetes/admin.conf on a node
    + host: the node on which it runs, by pyinfra's connection and sudo; None for the controller
    """

    program: str = "kubectl"
    kubeconfig: str | None = None
    host: Host | None = None

    @property
    def where(self) -> str:
        """The machine that kubectl runs on, in words."""
        return self.host.name if self.host else "the controller"

    def argv(self, arguments: Sequence[str], timeout: int = REQUEST) -> list[str]:
        """The whole command."""
        kubeconfig = self.kubeconfig or (NODE_KUBECONFIG if self.host else None)
        chosen = [f"--kubeconfig={kubeconfig}"] if kubeconfig else []
        chosen += [f"--cache-dir={_NO_CACHE}"] if self.host else []
        return [self.program, *chosen, f"--request-timeout={timeout}s", *arguments]

    def shown(self, arguments: Sequence[str]) -> str:
        """The command as a person would type it there."""
        return shlex.join(["kubectl", *arguments])

    def run(self, *arguments: str, timeout: int = REQUEST) -> str:
        """Run kubectl; what it prints. Raises KubectlError.

        + timeout: seconds for the request
        """
        limit = timeout + _OVERHEAD
        argv = self.argv(arguments, timeout)
        if self.host:
            return self._on_node(self.host, argv, limit)
        return self._here(argv, limit)

    def get(self, *arguments: str) -> Any:
        """What `kubectl get ... --output=json` says. Raises KubectlError."""
        try:
            return json.loads(self.run("get", *arguments, "--output=json"))
        except ValueError as error:
            raise KubectlError(f"kubectl on {self.where} did not answer with JSON: {error}") from error

    def may(self, verb: str, resource: str, *arguments: str) -> bool:
        """Whether the kubeconfig's user may do this. Raises KubectlError."""
        # Quiet, it says no by its exit code alone: an error has words.
        try:
            self.run("auth", "can-i", "--quiet", verb, resource, *arguments)
        except KubectlError as error:
            if str(error).endswith(_NO_WORDS):
                return False
            raise
        return True

    def _here(self, argv: list[str], limit: int) -> str:
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=limit
            )
        except subprocess.TimeoutExpired:
            raise KubectlError(f"kubectl on the controller did not end within {limit} s") from None
        except OSError as error:
            raise KubectlError(f"there is no kubectl on the controller: {argv[0]}: {error.strerror}") from None
        if done.returncode:
            raise KubectlError(sentence(done.stderr or done.stdout, self.where))
        if len(done.stdout) > _LONGEST:
            raise KubectlError("the API server's answer is too long to be read")
        return done.stdout

    def _on_node(self, host: Host, argv: list[str], limit: int) -> str:
        reading = _asked(host, shlex.join(argv), limit)
        if reading["state"] == "tool missing":
            raise KubectlError(f"there is no kubectl on {host.name}: {argv[0]}")
        if reading["state"] == "timed out":
            raise KubectlError(f"kubectl on {host.name} did not end within {limit} s")
        if reading["state"] not in ("value", "empty"):
            words = "" if reading["detail"].startswith("exit code ") else reading["detail"]
            raise KubectlError(sentence(words, self.where))
        return reading["value"]


def _asked(host: Host, script: str, limit: int) -> Reading[str]:
    try:
        found = get_fact(
            host.state,
            host,
            KubectlAnswer,
            kwargs={"script": script, "limit": limit, "_timeout": limit + 10},
            apply_failed_hosts=False,
        )
    except (PyinfraError, OSError) as error:
        raise KubectlError(f"{host.name}, where kubectl is to run, is not reached: {error}") from error
    # pyinfra answers with an empty dict for a node that broke off.
    return cast("Reading[str]", found or {"state": "failed", "value": "", "detail": "no answer"})


def of(program: str | None, kubeconfig: str | None, host: Host | None) -> Kubectl | None:
    """The way to the API that a policy names; None where it names none.

    + program: None for none
    """
    if program is None:
        return None
    if kubeconfig and not host:
        kubeconfig = str(Path(kubeconfig).expanduser())
    return Kubectl(program, kubeconfig, host)


def sentence(words: str, where: str) -> str:
    """Why kubectl failed, in one sentence: its last line of substance, and what that means.

    + words: what it said, on standard error
    """
    lines = [line.strip() for line in words.splitlines() if line.strip() and not line.lstrip().startswith("Warning:")]
    said = (lines[-1] if lines else _NO_WORDS)[:400]
    low = said.lower()
    if any(each in low for each in _UNREACHED):
        return f"the API server is not reached from {where}: {said}"
    if "(forbidden)" in low or " is forbidden:" in low:
        return f"the API server does not allow it: {said}"
    if "(unauthorized)" in low or "provide credentials" in low:
        return f"the API server does not know the kubeconfig's user: {said}"
    return f"kubectl on {where}: {said}"
