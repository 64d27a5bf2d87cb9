"""The files of the lab's machines, rendered from `lab/templates/` into their overlays before they start."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lab import plan
from lab.kubernetes.plan import Cluster
from lab.plan import NodePlan

_TEMPLATES = Path(__file__).parent / "templates"
_SUFFIX = ".j2"

# Units enabled on a node beside those that Debian's packages enable.
_ENABLED = ("cilium-datapath.service", "pod-client.service", "pod-coredns.service")


def write_node(
    node: NodePlan, upper: Path, *, endpoint_routes: bool, cluster: Cluster | None = None, guest: bool = False
) -> None:
    """Write everything that makes `node` itself, but its keys: names, resolver configuration, pods, routing.

    With `cluster` it is a Kubernetes node as well; `guest` says whether it is a virtual machine.
    """
    values = {
        "node": node,
        "resolvers": plan.RESOLVERS,
        # A virtual machine is saved and used again: its files are the same each time.
        "machine_id": hashlib.sha256(node.name.encode()).hexdigest()[:32] if guest else uuid.uuid4().hex,
        "routing": "endpoint-routes" if endpoint_routes else "redirect",
        "cluster": cluster,
        "guest": guest,
    }
    for top in ("node", "kubernetes/node") if cluster else ("node",):
        for template in sorted((_TEMPLATES / top).rglob(f"*{_SUFFIX}")):
            relative = template.relative_to(_TEMPLATES / top)
            text = render(f"{top}/{relative}", values)
            write(upper, relative.with_name(relative.name.removesuffix(_SUFFIX)), text)
    programs = ("usr/local/sbin/cilium-datapath", *(("usr/local/bin/kubelet",) if cluster else ()))
    for program in programs:
        (upper / program).chmod(0o755)
    wants = upper / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    for unit in (*_ENABLED, *(("kubelet.service",) if cluster else ())):
        (wants / unit).symlink_to(f"/etc/systemd/system/{unit}")


def render(template: str, values: Mapping[str, object]) -> str:
    """Render `lab/templates/`TEMPLATE. Raises jinja2.UndefinedError if a value is missing."""
    return _environment().get_template(template).render(values)


def write_outside(upper: Path) -> None:
    """Write the configuration of the resolvers outside the cluster."""
    for resolver in plan.RESOLVERS:
        text = render(f"outside/resolver.conf{_SUFFIX}", {"resolver": resolver})
        write(upper, Path("etc/unbound", f"{resolver.name}.conf"), text)


def write(upper: Path, relative: Path, text: str, mode: int = 0o644) -> None:
    """Write one file below `upper`, its folders 0755 as in Debian's root (an overlay takes the upper folder's mode)."""
    folder = upper
    for part in relative.parent.parts:
        folder = folder / part
        if not folder.is_dir():
            folder.mkdir()
            folder.chmod(0o755)
    file = upper / relative
    file.write_text(text)
    file.chmod(mode)


def _environment() -> Environment:
    # The output is configuration, not HTML.
    return Environment(
        loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
