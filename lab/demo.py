"""The incidents from end to end on this machine: `make demo`, and `make demo-ipvs` for the second one.

Every step is a command that can be typed as it is shown. The lab stays up: `python -m lab down` takes it away.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from lab import lifecycle
from lab.api import Lab

_ROOT = Path(__file__).resolve().parent.parent
_QUIET = {"PYINFRA_PROGRESS": "off"}


def main() -> int:
    """0 if the incident was seen, healed, proven, and left alone by a second run."""
    began = time.monotonic()
    if sys.argv[1:] == ["ipvs"]:
        _second_incident()
    else:
        _first_incident()
    taken = time.monotonic() - began
    print(f"\ndemo: healed; the second run changed nothing and restarted nothing ({taken:.0f} s)", file=sys.stderr)
    print("try more: python -m lab list; python -m lab inject ...; python -m lab down", file=sys.stderr)
    return 0


def _first_incident() -> None:
    _run(
        "A lab: three real Debian nodes with dnsmasq, systemd-resolved, sshd and a Cilium-shaped data path", 0, "lab up"
    )
    _run("As it should be", 0, "lab heal")
    _run("The incident: dnsmasq on node-0 drops what arrives from pods", 0, "lab inject dnsmasq-except-cilium")
    _run("Pods of node-0 get 0/20 over UDP and TCP, while ICMP is fine", 1, "pyinfra -y inventory deploys/verify.py")
    _run("Which line it is", 1, "pyinfra -y inventory deploys/diagnose.py")
    _run("What would change", 0, "pyinfra inventory deploys/fix_dns.py --dry --diff")
    _heal_and_prove("dnsmasq", "20/20")


def _second_incident() -> None:
    if (status := lifecycle.status())["up"] and not status["kubernetes"]:
        _run("The lab that is up has no Kubernetes", 0, "lab down")
    _run(
        "A lab: three virtual machines with kube-proxy in IPVS mode, a real API server, pods behind 10.32.0.10.\n"
        "    The first time Kubernetes is compiled and the machines are booted and saved: about 10 to 20 minutes",
        0,
        "lab up --kubernetes",
    )
    _run("As it should be", 0, "lab heal")
    _run("The incident: node-0 was on nft, is on legacy now, and a CoreDNS pod moves", 0, "lab inject mixed-backends")
    _run("About half of the queries are lost, and why", 1, "pyinfra -y inventory deploys/diagnose.py")
    _run("What would change", 0, "pyinfra inventory deploys/fix_dns.py --dry")
    _heal_and_prove("kube-proxy", "Every query is answered, UDP and TCP")


def _heal_and_prove(unit: str, proven: str) -> None:
    _run("Heal it", 0, "pyinfra inventory deploys/fix_dns.py -y")
    _run(proven, 0, "pyinfra -y inventory deploys/verify.py")
    started = _start_of(unit)
    said = _run("A second run changes nothing", 0, "pyinfra inventory deploys/fix_dns.py -y")
    if "Success" in said.split("--> Results:")[0] or _start_of(unit) != started:
        print(f"demo: the second run changed something or restarted {unit}", file=sys.stderr)
        raise SystemExit(1)


def _run(title: str, expected: int, command: str) -> str:
    """Show and run one command; ends the demo if it exits otherwise than expected. Returns its standard error."""
    words = shlex.split(command)
    shown = f"python -m {command}" if words[0] == "lab" else command
    print(f"\n=== {title}\n$ {shown}", file=sys.stderr, flush=True)
    argv = [sys.executable, "-m", *words] if words[0] == "lab" else words
    process = subprocess.Popen(argv, cwd=_ROOT, stderr=subprocess.PIPE, text=True, env=os.environ | _QUIET)
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        print(line, end="", file=sys.stderr, flush=True)
        said.append(line)
    if process.wait() != expected:
        print(f"demo: {shown} ended with {process.returncode}, expected {expected}", file=sys.stderr)
        raise SystemExit(1)
    return "".join(said)


def _start_of(unit: str) -> str:
    show = ["systemctl", "show", unit, "-p", "ActiveEnterTimestampMonotonic,MainPID"]
    return Lab.attach().node("node-0").run(show).stdout


if __name__ == "__main__":
    sys.exit(main())
