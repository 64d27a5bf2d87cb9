"""The node's IPVS table, which is kube-proxy's: it is put right by kube-proxy, never by hand."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from pyinfra import host
from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation

from facts.ipvs import Ipvs
from facts.netfilter import Backend
from operations import runs
from operations.kube_proxy import restarted
from operations.wave import refusal


@operation()
def resync(
    backend: Backend, vips: Sequence[str] = (), wait: int = 90, run: str = runs.RUN
) -> Generator[StringCommand, None, None]:
    """
    Let kube-proxy write the IPVS table anew, by a restart: it drops what is not wanted, and no query is lost.

    + backend: where kube-proxy's iptables rules must be afterwards: "nft" or "legacy"
    + vips: DNS service addresses that must have a real server, besides those that had one before
    + wait: seconds that this may take
    + run: the run's id, for the journal

    It restarts whenever it is called: give it `_if`.

    **Example:**

    .. code:: python

        ipvs.resync(name="IPVS as kube-proxy wants it", backend="legacy", vips=["10.32.0.10"], _if=stale.did_change)
    """
    yield from restarted(backend, vips, wait, run)


@operation()
def clear(
    backend: Backend, vips: Sequence[str] = (), wait: int = 90, run: str = runs.RUN
) -> Generator[StringCommand, None, None]:
    """
    Clear the IPVS table, and restart kube-proxy at once. Every service of the node is away until it has synced.

    + backend: where kube-proxy's iptables rules must be afterwards: "nft" or "legacy"
    + vips: DNS service addresses that must have a real server, besides those that had one before
    + wait: seconds that this may take
    + run: the run's id, for the journal

    Measured: 4 s without services, against none with `resync`; the other way round, restart and then clear, it is the
    sync period (30 s). Where the restart fails, or brings nothing back, the old table is loaded again. Nothing is
    cleared where kube-proxy cannot be restarted, or where there is no table.

    **Example:**

    .. code:: python

        ipvs.clear(name="IPVS from nothing", backend="legacy", vips=["10.32.0.10"], _if=host.data.ipvs_clear)
    """
    reading = host.get_fact(Ipvs)
    if reading["state"] not in ("value", "empty"):
        yield refusal(f"refused: its IPVS table is not known: {reading['state']}: {reading['detail']}")
        return
    if not reading["value"] or not reading["value"]["services"]:
        host.noop("the IPVS table is empty, or not there")
        return
    kept = f"/run/dnsmend-ipvs-{run}"
    yield from restarted(
        backend,
        vips,
        wait,
        run,
        before_it=f"umask 077; ipvsadm -Sn > {kept} && ipvsadm -C",
        if_it_fails=f'[ -n "$(ipvsadm -Sn)" ] || ipvsadm -R < {kept}',
    )
