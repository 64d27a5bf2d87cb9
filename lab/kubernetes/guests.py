"""The cluster's nodes as virtual machines: booted once, then resumed from where they were left.

What is saved holds no secret and has not seen a cluster: kube-proxy and sshd have not been started there. So each
resumed node gets its keys and its kube-proxy afresh, and healing one is to throw it away and resume another.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import signal
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import files, host, keys, network
from lab.host import LabError, say
from lab.kubernetes import control_plane, plan
from lab.kubernetes.plan import CLUSTER
from lab.plan import NodePlan
from lab.state import State
from lab.vm import accelerator, disk, guest
from lab.vm.disk import Disk
from lab.vm.guest import Saved

_UNITS = (
    "dnsmasq.service",
    "systemd-resolved.service",
    "cilium-datapath.service",
    "pod-client.service",
    "kubelet.service",
)

# Debian's unit does not start sshd while this file exists.
_NO_SSHD = Path("etc/ssh/sshd_not_to_be_run")

# $1 is the time. The archive with what is secret comes on standard input, in base64.
_PERSONALISE = f"""
set -e
date --utc --set="@$1" >/dev/null
base64 --decode | tar -x -C /
rm /{_NO_SSHD}
systemctl enable --quiet kube-proxy.service
systemctl start --no-block ssh.service kube-proxy.service
"""


def build_disk(programs: Path) -> Disk:
    """The disk of every node, made now if it is not cached. Raises LabError."""
    return disk.ensure((programs / "kube-proxy",), plan.HOOKS)


class Guests:
    """The virtual machines of one lab."""

    def __init__(self, record: State, nodes: Sequence[NodePlan], programs: Path) -> None:
        self._record, self._nodes = record, tuple(nodes)
        self._disk = build_disk(programs)
        self._how = accelerator.choose(self._disk.kernel)

    def start(self) -> None:
        """Resume every node, after booting them all if no saved state fits. Raises LabError."""
        saved = self._saved_directory()
        if not saved.is_dir():
            self._boot_and_save(saved)
        self._in_parallel(self.resume)

    def resume(self, node: NodePlan) -> None:
        """(Re)start one node as it was saved, and give it its keys. Raises LabError."""
        self._end(node)
        guest.resume(self._record, Saved(self._saved_directory(), node.name), self._disk, self._how)
        with tempfile.TemporaryDirectory() as folder:
            keys.install(node, Path(folder))
            proxy = control_plane.proxy_kubeconfig().read_text()
            files.write(Path(folder), Path("etc/kubernetes/kube-proxy.kubeconfig"), proxy, 0o600)
            secrets = base64.b64encode(_archive(Path(folder), mtime=int(time.time()))).decode()
        guest.run(node.name, ["sh", "-c", _PERSONALISE, "sh", f"{time.time():.3f}"], stdin=secrets)

    def _boot_and_save(self, saved: Path) -> None:
        say(f"no saved state: booting {len(self._nodes)} virtual machines with {self._how.name}, once")
        with host.locked(saved.parent):
            for old in saved.parent.glob("vm-state-*.partial"):
                shutil.rmtree(old)
            partial = saved.with_name(saved.name + ".partial")
            partial.mkdir()
            try:
                for node in self._nodes:
                    Saved(partial, node.name).seed.write_bytes(self._seed(node))

                def boot(node: NodePlan) -> None:
                    guest.boot(self._record, Saved(partial, node.name), self._disk, self._how)
                    guest.wait_until_it_answers(node.name)
                    say(f"{node.name}: booted")
                    _wait_for_units(node)
                    guest.save(Saved(partial, node.name))
                    self._end(node)
                    say(f"{node.name}: saved")

                self._in_parallel(boot)
                partial.rename(saved)
            finally:
                shutil.rmtree(partial, ignore_errors=True)

    def _saved_directory(self) -> Path:
        key = hashlib.sha256()
        parts = [str(self._disk.directory), self._how.identity, str(guest.MEMORY_MIB), guest.KERNEL_LINE]
        for part in (*(text.encode() for text in parts), *(self._seed(node) for node in self._nodes)):
            key.update(part)
        return host.cache_dir() / f"vm-state-{key.hexdigest()[:16]}"

    def _seed(self, node: NodePlan) -> bytes:
        """The archive that a node's own files come from: the same bytes each time."""
        with tempfile.TemporaryDirectory() as folder:
            upper = Path(folder, "files")
            upper.mkdir()
            files.write_node(node, upper, endpoint_routes=False, cluster=CLUSTER, guest=True)
            files.write(upper, _NO_SSHD, "")
            if node.pod("coredns") not in plan.first_resolvers(self._nodes):
                (upper / "etc/systemd/system/multi-user.target.wants/pod-coredns.service").unlink()
            lines = network.node_lines(node) + network.routes_to_others(node, self._nodes)
            Path(folder, "network").write_text("\n".join(lines) + "\n")
            return _archive(Path(folder), mtime=0)

    def _end(self, node: NodePlan) -> None:
        """End the virtual machine of `node`, if there is one."""
        found = self._record.machines.get(node.name)
        if found is None:
            return
        deadline = time.monotonic() + 10
        while found.supervisor.alive():
            os.kill(found.supervisor.pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise LabError(f"the virtual machine of {node.name} does not end")
            time.sleep(0.02)

    def _in_parallel(self, work: Callable[[NodePlan], None]) -> None:
        with ThreadPoolExecutor(len(self._nodes)) as pool:
            for done in [pool.submit(work, node) for node in self._nodes]:
                done.result()


def _wait_for_units(node: NodePlan) -> None:
    """Wait until the node has started everything that it should have before it is saved."""
    deadline = time.monotonic() + 120
    while (missing := guest.run(node.name, ["systemctl", "is-active", *_UNITS], check=False)).returncode != 0:
        if time.monotonic() > deadline:
            raise LabError(f"{node.name}: not all of {', '.join(_UNITS)} are active: {missing.stdout.split()}")
        time.sleep(0.5)
    guest.run(node.name, ["systemctl", "is-system-running", "--wait"], check=False, timeout=120.0)


def _archive(top: Path, *, mtime: int) -> bytes:
    """A tar archive of everything below `top`, owners and modes kept, times replaced."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.mtime = mtime
        entry.uname = entry.gname = ""
        return entry

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(top.rglob("*")):
            archive.add(path, str(path.relative_to(top)), recursive=False, filter=plain)
    return buffer.getvalue()
