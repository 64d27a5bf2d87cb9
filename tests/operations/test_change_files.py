"""Files that are reached by symbolic links: nothing is written through one before it may be, and they stay links."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from lab.api import Lab
from lab.places import Node
from models.dnsmasq_edits import Edit
from models.interface_policy import Plan
from operations import dnsmasq
from tests.deploys.nodes import planned_change, served

RUN = "20261122T080000Z-abcd"
FOLDER = "/etc/dnsmasq.d"
REAL = "/srv/cfg/dnsmasq.d"


def refused_here(tmp_path: Path, *edits: Edit) -> str:
    """What the change says on this machine, in folders of its own, where dnsmasq takes no configuration."""
    if os.geteuid() != 0:
        pytest.fail("this test makes mount namespaces: run it as root")
    plan = Plan(edits, ("/bin/false",), (), "a pod is not answered", cast(Any, None), cast(Any, None))
    instance = cast(Any, {"unit": "dnsmend-no-such.service", "pid": 12})
    change = dnsmasq.Change("dnsmasq", instance, ("172.25.4.1",), plan)
    script = dnsmasq.script(change, RUN, 180).replace("/var/lib/dnsmend", f"{tmp_path}/lib")
    script = script.replace("/run/dnsmend", f"{tmp_path}/run")
    done = subprocess.run(["sh", "-c", script], input=dnsmasq.payload(change, RUN), capture_output=True, text=True)
    assert done.returncode == 1
    return done.stderr


def everything(folder: Path) -> dict[str, tuple[int, str]]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.lstat().st_mtime_ns, path.read_text()) for path in found}


def test_a_folder_behind_a_link_is_not_written_to_for_the_test(tmp_path: Path) -> None:
    config = tmp_path / "config"
    (config / "real").mkdir(parents=True)
    (config / "real" / "k8s.conf").write_text("except-interface=cilium_*\n")
    (config / "real" / "shared.conf").symlink_to("../shared.conf")
    (config / "shared.conf").write_text("no-resolv\n")
    (config / "link").symlink_to(config / "real")
    before = everything(config)
    edits = (
        Edit(f"{config}/link/k8s.conf", "except-interface=cilium_*\n", "# nothing\n"),
        Edit(f"{config}/link/shared.conf", "no-resolv\n", "# nothing\n"),
        Edit(f"{config}/link/dnsmend.conf", None, "except-interface=lo\n"),
    )
    said = refused_here(tmp_path, *edits)
    assert "dnsmasq refuses the new configuration" in said and said.endswith("nothing was changed\n")
    assert everything(config) == before
    assert not (tmp_path / "lib").exists()


@pytest.fixture
def linked(healed: Lab) -> Iterator[Node]:
    """node-0, whose pods are not answered, with its dnsmasq's folder elsewhere and a link in its place."""
    node = healed.node("node-0")
    node.run(["rm", "-rf", "/var/lib/dnsmend"])
    healed.inject("dnsmasq-except-cilium", node.name)
    node.run(["sh", "-ec", f"mkdir -p {Path(REAL).parent}; mv {FOLDER} {REAL}; ln -s {REAL} {FOLDER}"])
    yield node
    node.run(["sh", "-ec", f"rm {FOLDER}; mv {REAL} {FOLDER}; rmdir {Path(REAL).parent}; rm -rf /var/lib/dnsmend"])


def files(node: Node) -> str:
    script = f"find /etc {REAL} -xdev -type f -exec sha256sum {{}} + | sort; find {FOLDER}/ -printf '%p %l %m %U %G\\n'"
    return node.run(["sh", "-c", script]).stdout


@pytest.mark.lab
def test_what_dnsmasq_refuses_leaves_the_folder_behind_a_link_as_it_was(linked: Node, reached: Any) -> None:
    change = planned_change(reached)
    before = files(linked)
    script = dnsmasq.script(change, RUN, 600).replace(" --test\n", " --no-such-option --test\n")
    done = linked.run(["sh", "-c", script], stdin=dnsmasq.payload(change, RUN), check=False)
    assert done.returncode == 1 and "dnsmasq refuses the new configuration" in done.stderr
    assert files(linked) == before


@pytest.mark.lab
def test_a_folder_behind_a_link_is_changed_and_comes_back(linked: Node, reached: Any) -> None:
    change = planned_change(reached)
    before = files(linked)
    assert any(edit.before is None and edit.path.startswith(f"{FOLDER}/") for edit in change.plan.edits)
    linked.run(["sh", "-c", dnsmasq.script(change, RUN, 600)], stdin=dnsmasq.payload(change, RUN))
    assert all(served(linked).values())
    assert linked.run(["readlink", FOLDER]).stdout == f"{REAL}\n"
    linked.run(["sh", f"/var/lib/dnsmend/{RUN}/run.sh", "all", "by hand"])
    assert files(linked) == before
    assert not all(served(linked).values())


@pytest.mark.lab
def test_a_file_behind_a_link_is_changed_where_it_is_and_comes_back(linked: Node, reached: Any) -> None:
    linked.run(["sh", "-ec", f"mv {REAL}/k8s.conf /srv/cfg/k8s.conf; ln -s ../k8s.conf {REAL}/k8s.conf"])
    try:
        change = planned_change(reached)
        before = files(linked) + linked.read("/srv/cfg/k8s.conf")
        assert any(edit.path == f"{FOLDER}/k8s.conf" for edit in change.plan.edits)
        linked.run(["sh", "-c", dnsmasq.script(change, RUN, 600)], stdin=dnsmasq.payload(change, RUN))
        assert all(served(linked).values())
        assert linked.run(["readlink", f"{REAL}/k8s.conf"]).stdout == "../k8s.conf\n"
        linked.run(["sh", f"/var/lib/dnsmend/{RUN}/run.sh", "all", "by hand"])
        assert files(linked) + linked.read("/srv/cfg/k8s.conf") == before
    finally:
        linked.run(["mv", "/srv/cfg/k8s.conf", f"{REAL}/k8s.conf"])
