"""The cluster's nodes as virtual machines: booted once, then resumed from where they were left.

They are saved with kube-proxy at work, which an emulated machine needs long to start, and before sshd has its keys.
To heal one is to throw it away and to resume another.
"""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import files, host, keys, machine, network, places
from lab.host import LabError, say
from lab.kubernetes import kube_proxy, plan
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

# $1 is the time, $2 the API server; the archive with the keys comes on standard input, in base64. The
# neighbours, and kube-proxy's connections, are those of another lab: told so, the node finds new ones at once.
_PERSONALISE = f"""
set -e
date --utc --set="@$1" >/dev/null
base64 --decode | tar -x -C /
rm /{_NO_SSHD}
ip neighbour flush dev bond0
ip neighbour flush dev mgmt0
ss --kill --tcp dst "$2" >/dev/null
systemctl start --no-block ssh.service
"""

# Between two syncs, so that the next one is near when the node is resumed: until then its last one looks old.
_BEFORE_THE_NEXT_SYNC = f'age=$(( $(date +%s) - $({kube_proxy.LAST_SYNC}) )); [ "$age" -ge 18 ] && [ "$age" -le 26 ]'


def build_disk(programs: Path) -> Disk:
    """The disk of every node, made now if it is not cached. Raises LabError."""
    return disk.ensure((programs / "kube-proxy",), plan.HOOKS)


class Guests:
    """The virtual machines of one lab."""

    def __init__(self, record: State, nodes: Sequence[NodePlan], programs: Path) -> None:
        self._record, self._nodes = record, tuple(nodes)
        self._disk = build_disk(programs)
        self._how = accelerator.choose(self._disk.kernel)

    @property
    def emulated(self) -> bool:
        """Whether QEMU's translator runs them, for want of KVM."""
        return self._how.emulated

    def boot(self, saved: Path) -> None:
        """Start every node from its kernel, on disks in `saved`; kube-proxy not yet. Raises LabError."""

        def boot(node: NodePlan) -> None:
            Saved(saved, node.name).seed.write_bytes(self._seed(node))
            guest.boot(self._record, Saved(saved, node.name), self._disk, self._how)
            guest.wait_until_it_answers(node.name)
            _wait_for_units(node)
            say(f"{node.name}: booted")

        in_parallel(boot, self._nodes)

    def save(self, saved: Path) -> None:
        """Write the state of every node to `saved` and end it. Raises LabError."""

        def save(node: NodePlan) -> None:
            kube_proxy.wait(places.node(self._record, node), _BEFORE_THE_NEXT_SYNC, "kube-proxy does not sync")
            guest.save(Saved(saved, node.name))
            machine.end(self._record, node.name)
            say(f"{node.name}: saved")

        in_parallel(save, self._nodes)

    def resume(self, saved: Path, nodes: Sequence[NodePlan]) -> None:
        """(Re)start `nodes` as they were saved. Raises LabError."""

        def resume(node: NodePlan) -> None:
            machine.end(self._record, node.name)
            guest.resume(self._record, Saved(saved, node.name), self._disk, self._how)

        in_parallel(resume, nodes)

    def personalise(self, node: NodePlan) -> None:
        """Give a resumed node its keys and the time, and start sshd. Raises LabError."""
        with tempfile.TemporaryDirectory() as folder:
            keys.install(node, Path(folder))
            archive = base64.b64encode(_archive(Path(folder), mtime=int(time.time()))).decode()
        argv = ["sh", "-c", _PERSONALISE, "sh", f"{time.time():.3f}", CLUSTER.api_lan]
        guest.run(node.name, argv, stdin=archive)

    def saved_directory(self) -> Path:
        """Where the state is, or will be, that fits these nodes and this machine."""
        key = hashlib.sha256()
        parts = [
            str(self._disk.directory),
            self._how.identity,
            str(guest.MEMORY_MIB),
            guest.KERNEL_LINE,
            self._how.kernel_line,
        ]
        for part in (*(text.encode() for text in parts), *(self._seed(node) for node in self._nodes)):
            key.update(part)
        return host.cache_dir() / f"cluster-state-{key.hexdigest()[:16]}"

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


def in_parallel(work: Callable[[NodePlan], None], nodes: Sequence[NodePlan]) -> None:
    """Do `work` for all `nodes` side by side; raises what the first of them raised."""
    with ThreadPoolExecutor(len(nodes)) as pool:
        for done in [pool.submit(work, node) for node in nodes]:
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
