"""Drift in CI: compare the nodes, or recorded snapshots of them, with the policy. Changes nothing.

    python -m deploys.gate inventory                                # asks the nodes, over SSH
    python -m deploys.gate inventory --limit node-0 --junit drift.xml
    python -m deploys.gate --snapshots runs/bundle                  # without a node: what would change there
    python -m deploys.gate --snapshots runs/bundle inventory        # with the inventory's groups and data

The first two run `pyinfra inventory deploys/fix_dns.py --dry --json`, with the options that are not the gate's own.

Exit code: 0 no drift; 2 drift, listed per node and operation; 1 an error: a node that could not be reached or read or
would refuse, an empty inventory, a --limit that matches nothing, a wrong option.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from pyinfra.api.exceptions import PyinfraError

from deploys import drift
from deploys import policy as policies
from deploys.exits import Exit
from deploys.policy import Policy
from reports import drift as report
from reports.drift import Drift


class _Parser(argparse.ArgumentParser):
    """A wrong option is an error, which is 1 here: 2 means drift."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(Exit.NOT_WELL, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str]) -> Exit:
    """Compare, say what differs, and how it stands."""
    options, others = _options(arguments)
    try:
        if options.snapshots:
            found = _offline(options.snapshots, options.inventory, options.data)
        else:
            found = _live([options.inventory, *others, *(f"--data={each}" for each in options.data)])
    except PyinfraError as error:
        found = {"nodes": [], "pending": [], "errors": [str(error)]}
    print(report.text(found), end="")
    if options.junit:
        try:
            Path(options.junit).write_text(report.junit(found), encoding="utf-8")
        except OSError as error:
            print(f"ERROR {options.junit}: {error.strerror}")
            return Exit.NOT_WELL
    if found["errors"]:
        return Exit.NOT_WELL
    return Exit.PENDING if found["pending"] else Exit.WELL


def _options(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = _Parser("python -m deploys.gate", description="0 no drift, 2 drift, 1 error", allow_abbrev=False)
    parser.add_argument("inventory", nargs="?", default="", help="as for pyinfra")
    parser.add_argument("--snapshots", metavar="DIR", help="a bundle, or a directory of snapshots, instead of nodes")
    parser.add_argument("--junit", metavar="FILE", help="write the result as JUnit XML")
    parser.add_argument("--data", metavar="KEY=VALUE", action="append", default=[], help="as for pyinfra")
    options, others = parser.parse_known_args(arguments)
    if not options.snapshots and not options.inventory:
        parser.error("which inventory?")
    if options.snapshots and others:
        parser.error(f"not with --snapshots: {' '.join(others)}")
    if confirming := [each for each in others if each in ("-y", "--yes")]:
        # pyinfra then looks for no change: its plan would be empty, whatever the nodes are like.
        parser.error(f"{confirming[0]} would hide every drift: leave it out")
    return options, others


def _live(arguments: Sequence[str]) -> Drift:
    """Run pyinfra, showing its log as it comes."""
    beside = Path(sys.executable).parent
    program = shutil.which("pyinfra", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        raise PyinfraError("pyinfra is not in the PATH")
    inventory, *options = arguments
    command = [program, inventory, "deploys/fix_dns.py", "--dry", "--json", *options]
    environment = {name: value for name, value in os.environ.items() if name != "PYINFRA_YES"}
    log: list[str] = []
    # A file, not a pipe: a large plan would fill that while the log is read.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**environment, "PYINFRA_PROGRESS": "off", "NO_COLOR": "1"},
        ) as running:
            assert running.stderr is not None
            for line in running.stderr:
                sys.stderr.write(line)
                log.append(line)
        output.seek(0)
        plan = output.read()
    return drift.of_dry_run(running.returncode, plan, log)


def _offline(directory: str, inventory: str, data: Sequence[str]) -> Drift:
    recorded = drift.load(directory)
    # Twice, and known once: pyinfra takes one name without a comma for a file.
    return drift.of_snapshots(_policies(inventory or ",".join([*recorded.fleet, *recorded.fleet]), data), recorded)


def _policies(inventory: str, data: Sequence[str]) -> dict[str, Policy]:
    """Each node's policy, as pyinfra would put it together. Raises PolicyError."""
    # Here, not above: pyinfra's command line makes sockets and threads of the whole process gevent's.
    from pyinfra.api.state import State
    from pyinfra.context import ctx_state
    from pyinfra_cli.exceptions import CliError
    from pyinfra_cli.inventory import make_inventory
    from pyinfra_cli.util import parse_cli_arg

    overrides: dict[str, object] = {}
    for each in data:
        key, equals, value = each.partition("=")
        if not equals:
            raise PyinfraError(f"--data {each}: must be KEY=VALUE")
        overrides[key] = parse_cli_arg(value)
    try:
        # pyinfra keeps the name of the file that it executes in the state.
        with ctx_state.use(State()):
            hosts = make_inventory(inventory, override_data=overrides, cwd=str(Path.cwd()))
    except CliError as error:
        raise PyinfraError(str(error)) from error
    return {host.name: policies.of(host) for host in hosts}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
