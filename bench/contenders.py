"""Who is measured, and the command that each one starts for a job."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from bench.fleet import Fleet
from facts.snapshot import FACTS

ROOT = Path(__file__).resolve().parent.parent
INVENTORY = "bench/inventory.py"
#: By name, what is measured.
JOBS: dict[str, str] = {
    "connect": "connect, and run `true`",
    "read": "read every node: one snapshot",
    "diagnose": "diagnose a fleet that is well",
    "noop": "repair a fleet that is well",
    "dry": "dry run of the repair, one node broken",
    "fix": "repair one broken node of the fleet",
}
#: Jobs in which a node is broken: injected before each run, healed after it.
BROKEN = ("dry", "fix")
_FIX = "deploys/fix_dns.py"
_DEPLOYS: dict[str, tuple[str, ...]] = {
    "connect": (INVENTORY, "exec", "--", "true"),
    "read": (INVENTORY, "fact", "facts.snapshot.NodeSnapshot"),
    "diagnose": (INVENTORY, "deploys/diagnose.py"),
    "noop": (INVENTORY, _FIX),
    "dry": (INVENTORY, _FIX, "--dry", "--diff"),
    "fix": (INVENTORY, _FIX),
}
_PLAYBOOKS = {"read": ["read.yml"], "diagnose": ["diagnose.yml"], "noop": ["fix.yml"], "fix": ["fix.yml"]}
_PLAYBOOKS["dry"] = ["fix.yml", "--check", "--diff"]


@dataclass(frozen=True)
class Command:
    """What is started, in the project's folder; `environment` comes on top of the bench's own."""

    argv: list[str]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Contender:
    """One who is measured. `missing` says why it cannot be, "" if it can."""

    name: str
    title: str
    command: Callable[[str, Fleet], Command]
    missing: Callable[[], str] = lambda: ""


def dnsmend(job: str, fleet: Fleet) -> Command:
    """As a user starts it."""
    return Command([sys.executable, "-m", "pyinfra", "-y", *_DEPLOYS[job]])


def recorded(command: Command, file: Path) -> Command:
    """The same run of pyinfra, and what it does over SSH is kept in a file."""
    _, _, module, *arguments = command.argv
    own = ["--", *arguments] if module == "pyinfra" else arguments
    return Command([sys.executable, "-m", "bench.launch", "--record", str(file), *own], command.environment)


def _apart(job: str, fleet: Fleet) -> Command:
    if job == "read":
        facts = [f"{type(fact).__module__}.{type(fact).__name__}" for fact in FACTS.values()]
        return Command([sys.executable, "-m", "pyinfra", "-y", INVENTORY, "fact", *facts])
    return Command([sys.executable, "-m", "bench.launch", "--apart", "--", "-y", *_DEPLOYS[job]])


def _raw(job: str, fleet: Fleet) -> Command:
    """xargs starts all of ssh at once: nothing does it with less."""
    folder = shlex.quote(str(fleet.folder))
    each = f"ssh -F {folder}/ssh_config {{}} sh <{folder}/lines/{{}} >{folder}/out/{{}}"
    return Command(["xargs", "-a", str(fleet.folder / "names"), "-P", str(len(fleet.names)), "-I{}", "sh", "-c", each])


def _ansible(job: str, fleet: Fleet, reads: str = "read") -> Command:
    inventory = ["-i", str(fleet.folder / "hosts.json")]
    environment = {
        "ANSIBLE_CONFIG": str(ROOT / "bench/ansible/ansible.cfg"),
        "ANSIBLE_FORKS": str(len(fleet.names)),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(fleet.folder / "control"),
        "ANSIBLE_LOCAL_TEMP": str(fleet.folder / "local"),
        "ANSIBLE_NOCOLOR": "1",
    }
    if job == "connect":
        return Command(["ansible", "nodes", *inventory, "-m", "ansible.builtin.raw", "-a", "true"], environment)
    book, *options = _PLAYBOOKS[job]
    playbook = str(ROOT / "bench/ansible" / book)
    return Command(["ansible-playbook", *inventory, "-e", f"reads={reads}", playbook, *options], environment)


def _sections(job: str, fleet: Fleet) -> Command:
    return _ansible(job, fleet, "sections")


def _mitogen(job: str, fleet: Fleet) -> Command:
    """Ansible loads the strategy by its path, and finds the library beside it: nothing else of this environment."""
    beside = fleet.folder / "mitogen"
    beside.mkdir(exist_ok=True)
    for package in ("mitogen", "ansible_mitogen"):
        found = find_spec(package)
        if found and found.submodule_search_locations and not (beside / package).is_symlink():
            (beside / package).symlink_to(found.submodule_search_locations[0])
    plain = _ansible(job, fleet)
    strategy = {
        "ANSIBLE_STRATEGY_PLUGINS": str(beside / "ansible_mitogen/plugins/strategy"),
        "ANSIBLE_STRATEGY": "mitogen_free",
    }
    return Command(plain.argv, {**plain.environment, **strategy})


def _without_ansible() -> str:
    return "" if shutil.which("ansible-playbook") else "ansible-core is not installed"


def _without_mitogen() -> str:
    return _without_ansible() or ("" if find_spec("ansible_mitogen") else "mitogen is not installed")


CONTENDERS: dict[str, Contender] = {
    each.name: each
    for each in (
        Contender("dnsmend", "dnsmend", dnsmend),
        Contender("raw", "OpenSSH, all at once, the same scripts", _raw),
        Contender("apart", "dnsmend with one pyinfra fact after the other", _apart),
        Contender("mitogen", "Ansible with Mitogen's strategy", _mitogen, _without_mitogen),
        Contender("ansible", "Ansible", _ansible, _without_ansible),
        Contender("sections", "Ansible with dnsmend's own sections as tasks", _sections, _without_ansible),
    )
}
