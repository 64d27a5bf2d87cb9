"""The files of the lab's machines, rendered from `lab/templates/` into their overlays before they start."""

from __future__ import annotations

import uuid
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lab import keys, plan
from lab.plan import NodePlan

_TEMPLATES = Path(__file__).parent / "templates"
_SUFFIX = ".j2"

# Units enabled on a node beside those that Debian's packages enable.
_ENABLED = ("cilium-datapath.service", "pod-client.service", "pod-coredns.service")


def write_node(node: NodePlan, upper: Path, *, endpoint_routes: bool) -> None:
    """Write everything that makes `node` itself: names, keys, resolver configuration, pods, the data path's routing."""
    values = {
        "node": node,
        "resolvers": plan.RESOLVERS,
        "machine_id": uuid.uuid4().hex,
        "routing": "endpoint-routes" if endpoint_routes else "redirect",
    }
    environment = _environment()
    for template in sorted((_TEMPLATES / "node").rglob(f"*{_SUFFIX}")):
        relative = template.relative_to(_TEMPLATES / "node")
        text = environment.get_template(f"node/{relative}").render(values)
        write(upper, relative.with_name(relative.name.removesuffix(_SUFFIX)), text)
    (upper / "usr/local/sbin/cilium-datapath").chmod(0o755)
    wants = upper / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    for unit in _ENABLED:
        (wants / unit).symlink_to(f"/etc/systemd/system/{unit}")
    keys.install(node, upper)


def write_outside(upper: Path) -> None:
    """Write the configuration of the resolvers outside the cluster."""
    template = _environment().get_template(f"outside/resolver.conf{_SUFFIX}")
    for resolver in plan.RESOLVERS:
        write(upper, Path("etc/unbound", f"{resolver.name}.conf"), template.render(resolver=resolver))


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
