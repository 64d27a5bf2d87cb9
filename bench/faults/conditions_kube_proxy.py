"""kube-proxy never syncs after its restart. It is a stand-in: the lab of containers has no Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.faults.case import Fault, Scenario, Stage
from bench.faults.scenarios import BACKEND
from lab.api import Lab
from lab.faults import stand_ins


def _with_kube_proxy(lab: Lab) -> None:
    BACKEND.prepare(lab)
    stand_ins.kube_proxy(lab.node("node-0"), "/etc/systemd/system")


#: As BACKEND, with a stand-in for kube-proxy, which is restarted.
KUBE_PROXY = Scenario(
    "iptables legacy to nft, with a stand-in for kube-proxy", _with_kube_proxy, BACKEND.words, BACKEND.nodes
)


@contextmanager
def _never_syncs(stage: Stage) -> Iterator[None]:
    """kube-proxy starts, and says that it has never synced. As before once it is started again later."""
    stage.node.write(stand_ins.NO_SYNC, "")
    try:
        yield
    finally:
        stage.node.remove(stand_ins.NO_SYNC)
        stage.node.run(["systemctl", "restart", "kube-proxy"])


def faults() -> list[Fault]:
    """A change of the iptables backend that kube-proxy does not follow."""
    return [Fault(KUBE_PROXY, "kube-proxy never syncs", "all the time", during=_never_syncs, codes=(1,), undo_after=30)]
