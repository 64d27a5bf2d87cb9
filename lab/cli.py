"""The lab's command line. People's text goes to stderr; stdout carries `status --json` and what commands print."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from lab import faults, host, keys, lifecycle, plan
from lab.api import Lab
from lab.host import LabError, say


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 1 when the lab could not do it."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.command(arguments)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lab", description="A cluster on one machine, with faults to inject."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="build the lab, or say that it is up")
    up.add_argument("--nodes", type=int, default=plan.MIN_NODES, metavar="N", help="3 to 50 (default 3)")
    up.add_argument("--endpoint-routes", action="store_true", help="a route per pod to its lxc link, no tc redirect")
    up.add_argument("--kubernetes", action="store_true", help="with a real API server, and kube-proxy on every node")
    up.set_defaults(command=_up)

    down = commands.add_parser("down", help="end the lab and remove everything of it")
    down.set_defaults(command=_down)

    status = commands.add_parser("status", help="what is up, and which faults are injected")
    status.add_argument("--json", action="store_true", help="on stdout, for programs")
    status.set_defaults(command=_status)

    listing = commands.add_parser("list", help="the faults that can be injected")
    listing.set_defaults(command=_list)

    inject = commands.add_parser("inject", help="inject a fault on a node and see that it is live")
    inject.add_argument(
        "fault", choices=sorted({**faults.FAULTS, **faults.CLUSTER_FAULTS}), metavar="FAULT", help="see `list`"
    )
    inject.add_argument("--node", default="node-0", help="default node-0")
    inject.add_argument("--mode", choices=faults.MODES, help="how dnsmasq binds; the fault's own default otherwise")
    inject.set_defaults(command=_inject)

    heal = commands.add_parser("heal", help="bring a node, or all, back to the state after `up`")
    heal.add_argument("--node", help="default: every node")
    heal.set_defaults(command=_heal)

    booting = commands.add_parser("reboot", help="cut a node's power and start it again; its files stay")
    booting.add_argument("--node", default="node-0", help="default node-0")
    booting.set_defaults(command=_reboot)

    ssh = commands.add_parser("ssh", help="ssh to a node as the user that pyinfra uses")
    ssh.add_argument("node")
    ssh.add_argument("words", nargs=argparse.REMAINDER, metavar="...", help="a command, or nothing for a shell")
    ssh.set_defaults(command=_ssh)

    execute = commands.add_parser("exec", help="run a command as root without ssh: node-N, or bare-metal")
    execute.add_argument("--pod", help="inside this pod of the node: client or coredns")
    execute.add_argument("node")
    execute.add_argument("words", nargs=argparse.REMAINDER, metavar="...", help="a command, or nothing for a shell")
    execute.set_defaults(command=_exec)
    return parser


def _up(arguments: argparse.Namespace) -> int:
    lifecycle.up(arguments.nodes, endpoint_routes=arguments.endpoint_routes, kubernetes=arguments.kubernetes)
    return 0


def _down(_: argparse.Namespace) -> int:
    say("down" if lifecycle.down() else "nothing to take down")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    found = lifecycle.status()
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"lab: {'up' if found['up'] else 'not up'} ({host.state_dir()})", file=sys.stderr)
        for node in found["nodes"]:
            injected = ", ".join(node["faults"]) or "no fault"
            print(
                f"  {node['name']}: {'alive' if node['alive'] else 'dead'}, VIP {node['vip']}, {injected}",
                file=sys.stderr,
            )
        if access := found["kubernetes"]:
            print(f"  {access['kubectl']} --kubeconfig {access['kubeconfig']}", file=sys.stderr)
    return 0 if found["up"] else 1


def _list(_: argparse.Namespace) -> int:
    titles = {fault.name: fault.title for fault in faults.FAULTS.values()}
    titles |= {fault.name: f"{fault.title} [Kubernetes]" for fault in faults.CLUSTER_FAULTS.values()}
    width = max(len(name) for name in titles)
    for name, title in sorted(titles.items()):
        print(f"{name:<{width}}  {title}", file=sys.stderr)
    return 0


def _inject(arguments: argparse.Namespace) -> int:
    with host.locked(host.state_dir()):
        say(Lab.attach().inject(arguments.fault, arguments.node, mode=arguments.mode))
    return 0


def _heal(arguments: argparse.Namespace) -> int:
    with host.locked(host.state_dir()):
        lab = Lab.attach()
        lab.heal(arguments.node)
        say(f"{arguments.node or 'every node'}: healed")
    return 0


def _reboot(arguments: argparse.Namespace) -> int:
    with host.locked(host.state_dir()):
        Lab.attach().reboot(arguments.node)
        say(f"{arguments.node}: booted")
    return 0


def _ssh(arguments: argparse.Namespace) -> int:
    node = Lab.attach().node(arguments.node)
    words = _command(arguments.words)
    os.execvp("ssh", ["ssh", "-F", str(keys.config()), node.name, *words])


def _exec(arguments: argparse.Namespace) -> int:
    # argparse takes all that comes after the node for the command.
    if arguments.words[:1] == ["--pod"]:
        raise LabError("--pod NAME comes before the node: `exec --pod client node-0 -- COMMAND`")
    lab = Lab.attach()
    place = lab.bare_metal if arguments.node == lab.bare_metal.name else lab.node(arguments.node)
    if arguments.pod:
        place = lab.node(arguments.node).pod(arguments.pod)
    if lab.record.guests and place.name != lab.bare_metal.name and not arguments.words:
        raise LabError(f"{arguments.node} is a virtual machine: give a command, or use `ssh` for a shell")
    argv = [*place.entry, *(_command(arguments.words) or ["bash"])]
    os.execvpe(argv[0], argv, {**host.ENVIRONMENT, "TERM": os.environ.get("TERM", "dumb")})


def _command(words: list[str]) -> list[str]:
    return words[1:] if words[:1] == ["--"] else words
