"""Canaries in the place of secrets, through looking, fixing and keeping: none of them may come out anywhere."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.api import Lab
from lab.places import Node
from tests.conftest import Run

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIGURED, TOLD, SHADOW, CLUSTER = (
    "canary-configured-7f3a9c",
    "canary-told-5d1e88",
    "canary-shadow-0b6c21",
    "canary-cluster-93ff0e",
)
#: Every command line of the node, again and again, as any of its users may read them.
_STOP = "/run/canary-stop"
_WATCH = f"while [ ! -e {_STOP} ]; do cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; sleep 0.05; done"
#: A process that is called NAME: any user may have one, with any arguments.
_CALLED = (
    "exec -a {name} python3 -c "
    "'import ctypes, time; ctypes.CDLL(None).prctl(15, b\"{name}\"); time.sleep(600)' {arguments}"
)


@pytest.fixture
def told(healed: Lab) -> Iterator[Node]:
    """node-0 in the incident, with secrets in its files and on its command lines."""
    node = healed.node("node-0")
    healed.inject("dnsmasq-except-cilium", "node-0")
    secrets = f"# password={CONFIGURED}\n# api_token: {CONFIGURED}\nconf-dir=/etc/canary.d,*.conf\n"
    node.write("/etc/dnsmasq.d/50-secrets.conf", "\n" * 20 + secrets)
    node.write("/etc/canary.d/host.key", f"{SHADOW}\n", 0o600)
    node.write("/etc/dnsmend-shadow", f"root:$6${SHADOW}:19000:0:99999:7:::\n{{\n forward {SHADOW}\n}}\n", 0o600)
    node.write("/etc/kubernetes/admin.conf", f"users: [{{user: {{token: {CLUSTER}}}}}]\n", 0o600)
    started = [
        ("root", "kube-proxy", f"--proxy-mode=ipvs --token={TOLD}"),
        ("ops", "dnsmasq", "--conf-file=/etc/dnsmend-shadow"),
        ("ops", "kube-proxy", "--config=/etc/dnsmend-shadow"),
        ("ops", "coredns", "-conf /etc/dnsmend-shadow"),
    ]
    for user, name, arguments in started:
        command = _CALLED.format(name=name, arguments=arguments)
        node.run(["systemd-run", "--quiet", f"--uid={user}", "--unit", f"canary-{user}-{name}", "bash", "-c", command])
    yield node
    for user, name, _ in started:
        node.run(["systemctl", "stop", f"canary-{user}-{name}"], check=False)
    node.remove("/etc/dnsmasq.d/50-secrets.conf", "/etc/dnsmend-shadow", "/etc/kubernetes/admin.conf")
    node.run(["rm", "-r", "/etc/canary.d"])
    node.run(["systemctl", "restart", "dnsmasq"])


@contextmanager
def watched(node: Node, seen: list[str]) -> Iterator[None]:
    """What stands on the node's command lines meanwhile."""
    process = subprocess.Popen([*node.entry, "sh", "-c", _WATCH], stdout=subprocess.PIPE, text=True, errors="replace")
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: seen.append(process.stdout.read()))  # type: ignore[union-attr]
    reader.start()
    try:
        yield
    finally:
        # The shell is in the node's process namespace: killing what entered it would leave the shell behind.
        node.write(_STOP, "")
        reader.join(30)
        process.wait(30)
        node.remove(_STOP)


def test_no_secret_comes_out(told: Node, pyinfra: Run, tmp_path: Path) -> None:
    key = Path(told_key()).read_text().splitlines()[2]
    before = set((ROOT / "runs").iterdir())
    seen: list[str] = []
    files = [tmp_path / f"d.{kind}" for kind in ("json", "html", "junit", "markdown")]
    given = [word for file in files for word in ("--data", f"{file.suffix[1:]}={file}")]
    with watched(told, seen):
        looked = pyinfra(
            "-y", "inventory", "deploys/diagnose.py", *given, "--data", f"bundle={tmp_path / 'b'}", timeout=300
        )
        planned = pyinfra("inventory", "deploys/fix_dns.py", "--dry", "--diff", "-vvv", timeout=300)
        fixed = pyinfra("inventory", "deploys/fix_dns.py", "-y", "-vv", timeout=300)
    assert looked.returncode == 1 and (tmp_path / "b" / "fleet.json").is_file(), looked.stderr
    assert planned.returncode == fixed.returncode == 0, planned.stderr + fixed.stderr
    said = {
        **{
            f"{name} {stream}": getattr(done, stream)
            for name, done in _named(looked, planned, fixed)
            for stream in ("stdout", "stderr")
        },
        **{str(path): path.read_text() for path in (*files, *(tmp_path / "b").glob("*.json"))},
        **{str(path): path.read_text() for path in set((ROOT / "runs").iterdir()) - before},
        "process list": seen[0],
    }
    assert len(seen[0]) > 100_000 and "sudo" in seen[0]
    for canary in (CONFIGURED, SHADOW, CLUSTER, key, TOLD):
        where = [name for name, text in said.items() if canary in text]
        # The one that a process was given is in the process list because of that process.
        assert [name for name in where if not (canary == TOLD and name == "process list")] == [], canary
    fleet = json.loads((tmp_path / "b" / "fleet.json").read_text())
    assert "[redacted]" in json.dumps(fleet["node-0"]["dnsmasq"])
    assert fleet["node-0"]["kube_proxy"]["value"]["mode"] == "ipvs", "root's kube-proxy was read, and nobody else's"
    assert {path.stat().st_mode & 0o077 for path in set((ROOT / "runs").iterdir()) - before} <= {0}


def _named(*runs: subprocess.CompletedProcess[str]) -> list[tuple[str, subprocess.CompletedProcess[str]]]:
    return list(zip(("looked", "planned", "fixed"), runs, strict=True))


def told_key() -> str:
    """The key that the lab is reached with."""
    import runpy

    return str(runpy.run_path(str(ROOT / "inventories/lab.py"))["nodes"][0][1]["ssh_key"])


@pytest.mark.parametrize("key", ["_sudo_password", "_su_password"])
def test_a_password_for_root_is_refused_before_anything_is_sent(healed: Lab, pyinfra: Run, key: str) -> None:
    seen: list[str] = []
    with watched(healed.node("node-0"), seen):
        done = pyinfra("-y", "inventory", "deploys/verify.py", "--data", f"{key}=canary-password")
    assert done.returncode != 0
    assert f"--data {key}: a password would stand in the node's process list" in done.stderr
    assert "canary-password" not in seen[0] + done.stdout + done.stderr
