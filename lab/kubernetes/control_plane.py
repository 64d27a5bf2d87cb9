"""etcd, kube-apiserver and kube-controller-manager, run on this machine in a network namespace of their own."""

from __future__ import annotations

import base64
import csv
import secrets
import time
from pathlib import Path

from lab import files, host, machine, network
from lab.host import LabError
from lab.kubernetes import plan
from lab.kubernetes.plan import CLUSTER
from lab.state import State

# There is no kubelet and no scheduler: controllers that would act on that (taints, evictions, endpoints of pods that
# no one reports on) are left out.
_CONTROLLERS = (
    "deployment,replicaset,daemonset,job,cronjob,namespace,serviceaccount,serviceaccount-token,garbagecollector"
)

_ADMINISTRATOR = "admin"
# User -> group.
_USERS = {_ADMINISTRATOR: "system:masters", "system:kube-proxy": "system:node-proxier"}

_PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager")

_PATIENCE = 60.0


def directory() -> Path:
    """The control plane's files: keys, tokens, kubeconfig, etcd's data."""
    return host.state_dir() / "kubernetes"


def kubeconfig() -> Path:
    """The administrator's kubeconfig; it leads over the management network."""
    return directory() / "kubeconfig"


def prepare() -> None:
    """Make the keys and the tokens of a new cluster."""
    directory().mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = [f'{secrets.token_hex(16)},{user},{user},"{group}"' for user, group in _USERS.items()]
    _secret(_tokens(), "\n".join(lines) + "\n")
    host.run(["ssh-keygen", "-q", "-t", "rsa", "-m", "PEM", "-N", "", "-f", str(_account_key())])


def start(state: State, programs: Path) -> None:
    """Start the control plane of what `prepare` or an earlier one has left, and wait until it answers.

    Raises LabError.
    """
    # Listening on the namespace's own loopback: nobody else reaches it.
    etcd = ["--data-dir", str(directory() / "etcd"), "--listen-client-urls", "http://127.0.0.1:2379"]
    etcd += ["--advertise-client-urls", "http://127.0.0.1:2379", "--listen-peer-urls", "http://127.0.0.1:2380"]
    _run(state, "etcd", [str(programs / "etcd"), *etcd])
    _run(
        state,
        "kube-apiserver",
        [
            str(programs / "kube-apiserver"),
            "--etcd-servers=http://127.0.0.1:2379",
            f"--service-cluster-ip-range={CLUSTER.services}",
            "--bind-address=0.0.0.0",
            f"--advertise-address={CLUSTER.api_lan}",
            f"--secure-port={CLUSTER.api_port}",
            f"--cert-dir={directory() / 'certificates'}",
            f"--service-account-key-file={_account_key()}",
            f"--service-account-signing-key-file={_account_key()}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--token-auth-file={_tokens()}",
            "--authorization-mode=RBAC,Node",
            "--allow-privileged=true",
        ],
    )
    _wait_for_certificate()
    tokens = {user: token for token, user, *_ in csv.reader(_tokens().read_text().splitlines())}
    _secret(kubeconfig(), _kubeconfig(CLUSTER.api_management, _ADMINISTRATOR, tokens[_ADMINISTRATOR]))
    _secret(proxy_kubeconfig(), _kubeconfig(CLUSTER.api_lan, "kube-proxy", tokens["system:kube-proxy"]))
    _wait_until_ready(programs)
    _run(
        state,
        "kube-controller-manager",
        [
            str(programs / "kube-controller-manager"),
            f"--kubeconfig={kubeconfig()}",
            f"--service-account-private-key-file={_account_key()}",
            f"--controllers={_CONTROLLERS}",
            "--leader-elect=false",
            "--use-service-account-credentials=false",
        ],
    )


def stop(state: State) -> None:
    """End the control plane, and leave its files whole. Raises LabError."""
    for name in reversed(_PROGRAMS):
        machine.end(state, name)


def proxy_kubeconfig() -> Path:
    """kube-proxy's kubeconfig, for the nodes; it leads over the LAN."""
    return directory() / "kube-proxy.kubeconfig"


def _run(state: State, name: str, argv: list[str]) -> None:
    machine.run_program(state, name, [*network.enter(plan.CONTROL), *argv])


def _tokens() -> Path:
    return directory() / "tokens.csv"


def _account_key() -> Path:
    return directory() / "service-account.key"


def _certificate() -> Path:
    return directory() / "certificates/apiserver.crt"


def _wait_for_certificate() -> None:
    deadline = time.monotonic() + _PATIENCE
    while not (_certificate().is_file() and "END CERTIFICATE" in _certificate().read_text()):
        if time.monotonic() > deadline:
            raise LabError(f"kube-apiserver has not started; see {machine.directory('kube-apiserver')}")
        time.sleep(0.05)


def _wait_until_ready(programs: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    kubectl = [str(programs / "kubectl"), f"--kubeconfig={kubeconfig()}", "--request-timeout=5s"]
    while (done := host.run([*kubectl, "get", "--raw=/readyz"], check=False)).stdout.strip() != "ok":
        if time.monotonic() > deadline:
            raise LabError(f"kube-apiserver is not ready: {done.stderr.strip() or done.stdout.strip()}")
        time.sleep(0.1)


def _kubeconfig(server: str, user: str, token: str) -> str:
    authority = base64.b64encode(_certificate().read_bytes()).decode()
    return files.render(
        "kubernetes/cluster/kubeconfig.j2",
        {"server": server, "user": user, "token": token, "authority": authority, "cluster": CLUSTER},
    )


def _secret(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text)
