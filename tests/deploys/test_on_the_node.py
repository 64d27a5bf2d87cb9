"""The node brings itself to the policy and joins: the script of docs/onboarding.md, word for word, run on the node.

What `runcmd` fetches from outside (a clone, and the packages of requirements.lock) is put there from this machine.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from lab.api import Lab
from lab.places import Node
from tests.conftest import ROOT
from tests.deploys.test_ci_docs import CLOUD_INIT
from tests.deploys.test_gate import choose

pytestmark = pytest.mark.lab

CERTIFICATE = "/var/lib/dnsmend-certificate.json"
PYINFRA = """#!/bin/sh
export PYTHONHOME=/opt/python PYTHONPATH=/opt/packages LD_LIBRARY_PATH=/opt/python/lib
exec /opt/python/bin/python3 -m pyinfra "$@"
"""


def needed() -> set[str]:
    """The packages that dnsmend needs, and what they need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: set[str] = set()
    left = [Requirement(each).name for each in project["dependencies"]]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            wanted = [Requirement(each) for each in distribution(name).requires or ()]
            left += [each.name for each in wanted if not each.marker or each.marker.evaluate({"extra": ""})]
    return found


def install(opt: Path) -> None:
    """This checkout, and this Python with what the checkout needs, in the node's /opt."""
    left_out = shutil.ignore_patterns(".*", "runs", "tests", "bench", "lab", "__pycache__")
    shutil.copytree(ROOT, opt / "dnsmend", symlinks=True, ignore=left_out)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    left_out = shutil.ignore_patterns("site-packages", "dist-packages", "test", "idlelib", "config-*", "__pycache__")
    shutil.copytree(Path(sys.base_prefix, "lib", version), opt / "python/lib" / version, ignore=left_out)
    for library in Path(sys.base_prefix, "lib").glob(f"lib{version}*.so*"):
        shutil.copy(library, opt / "python/lib")
    (opt / "python/bin").mkdir()
    shutil.copy(Path(sys.executable).resolve(), opt / "python/bin/python3")
    for name in needed():
        for file in distribution(name).files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = opt / "packages" / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), target)


@pytest.fixture
def new(healed: Lab) -> Iterator[Node]:
    """node-2 with dnsmend, kubeadm's stand-in, and the script where cloud-init writes it."""
    node = healed.node("node-2")
    install(node.files / "opt")
    node.write("/opt/dnsmend/.venv/bin/pyinfra", PYINFRA, 0o755)
    node.write("/usr/local/bin/kubeadm", '#!/bin/sh\necho "kubeadm $*"\n', 0o755)
    (file,) = CLOUD_INIT["write_files"]
    node.write(file["path"], file["content"], int(file["permissions"], 8))
    yield node
    node.run(["sh", "-c", "mv /usr/sbin/conntrack.away /usr/sbin/conntrack; rm -rf /opt/*"], check=False)
    node.run(["sh", "-c", "for name in iptables ip6tables; do update-alternatives --auto $name; done"])


def join(node: Node) -> subprocess.CompletedProcess[str]:
    """The last command of runcmd."""
    return node.run([*CLOUD_INIT["runcmd"][-1]], check=False, timeout=240)


def test_a_node_joins_once_it_is_as_the_policy_wants_it(new: Node) -> None:
    choose(new, "legacy")
    new.run(["mv", "/usr/sbin/conntrack", "/usr/sbin/conntrack.away"])
    refused = join(new)
    assert refused.returncode == 1, refused.stdout + refused.stderr
    # One line for whoever reads cloud-init-output.log.
    assert "REFUSED @local must not join: not found: conntrack (apt-get install conntrack)" in refused.stderr
    assert "kubeadm" not in refused.stdout
    assert new.run(["test", "-e", CERTIFICATE], check=False).returncode == 1

    new.run(["mv", "/usr/sbin/conntrack.away", "/usr/sbin/conntrack"])
    joined = join(new)
    assert joined.returncode == 0, joined.stdout + joined.stderr
    assert joined.stdout.endswith("kubeadm join --config /etc/kubernetes/join.yaml\n")
    assert json.loads(new.read(CERTIFICATE))["verdicts"] == []
    assert "(nf_tables)" in new.run(["iptables", "-V"]).stdout
