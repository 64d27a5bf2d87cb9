"""The first incident from end to end on this machine: `make demo`.

Every step is a command that can be typed as it is shown. The lab stays up: `python -m lab down` takes it away.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from lab.api import Lab

_ROOT = Path(__file__).resolve().parent.parent
_QUIET = {"PYINFRA_PROGRESS": "off"}


def main() -> int:
    """0 if the incident was seen, healed, proven, and left alone by a second run."""
    _run(
        "A lab: three real Debian nodes with dnsmasq, systemd-resolved, sshd and a Cilium-shaped data path", 0, "lab up"
    )
    _run("As it should be", 0, "lab heal")
    _run("The incident: dnsmasq on node-0 drops what arrives from pods", 0, "lab inject dnsmasq-except-cilium")
    _run("Pods of node-0 get 0/20 over UDP and TCP, while ICMP is fine", 1, "pyinfra -y inventory deploys/verify.py")
    _run("Which line it is", 1, "pyinfra -y inventory deploys/diagnose.py")
    _run("What would change", 0, "pyinfra inventory deploys/fix_dns.py --dry --diff")
    _run("Heal it", 0, "pyinfra inventory deploys/fix_dns.py -y")
    _run("20/20", 0, "pyinfra -y inventory deploys/verify.py")
    started = _dnsmasq_started()
    said = _run("A second run changes nothing", 0, "pyinfra inventory deploys/fix_dns.py -y")
    if "Success" in said.split("--> Results:")[0] or _dnsmasq_started() != started:
        print("demo: the second run changed something or restarted dnsmasq", file=sys.stderr)
        return 1
    print("\ndemo: healed; the second run changed nothing and restarted nothing", file=sys.stderr)
    print("try more: python -m lab list; python -m lab inject ...; python -m lab down", file=sys.stderr)
    return 0


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


def _dnsmasq_started() -> str:
    show = ["systemctl", "show", "dnsmasq", "-p", "ActiveEnterTimestampMonotonic,MainPID"]
    return Lab.attach().node("node-0").run(show).stdout


if __name__ == "__main__":
    sys.exit(main())
