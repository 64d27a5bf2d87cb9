"""What a node says of kube-proxy, put together: its form, what it was told, what it says of itself."""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Literal, TypedDict

import yaml

#: "process": it runs, and neither a unit, a pod nor one of the distributions is behind it.
Form = Literal["systemd", "DaemonSet", "static pod", "k3s", "k3s-agent", "microk8s", "process", "none"]


class Config(TypedDict):
    """What kube-proxy was told, by its configuration file or, without one, by its command line; "" for the default.

    `path` is the file's, within the container if there is one. `error` says why the file was not understood.
    Periods are in seconds, 0 for the default (30 s).
    """

    path: str
    mode: str
    sync_period: float
    min_sync_period: float
    scheduler: str
    strict_arp: bool
    error: str


class Sync(TypedDict):
    """Its metrics. Times are in seconds since 1970; `last` is 0 when no sync ever succeeded. `clock` is the node's.

    `clock - last` above twice the sync period means that syncing fails, also where healthz says 200.
    """

    last: float
    last_queued: float
    clock: float
    restore_failures: int


class Pod(TypedDict):
    """The pod that it runs in, as the container runtime knows it."""

    name: str
    namespace: str
    uid: str
    sandbox: str
    container: str
    image: str


class Cilium(TypedDict):
    """A Cilium agent on the node. `replacement` is its kube-proxy-replacement: "true", "false" ..., "" for not told."""

    pid: int
    replacement: str


class Proxy(TypedDict):
    """kube-proxy on the node.

    `unit` is the systemd unit that it runs in, "" for none; `pid` is 0 where the unit exists and does not run. `argv`
    is the command line of its process, or of the unit. `mode` is what it says itself ("ipvs", "iptables",
    "nftables"), else what it was told, else "". `answers` is whether it said anything on its metrics address.
    `health` is the status of its healthz page, 0 without an answer. `sync` and `version` are None and "" where its
    metrics were not to be had; `pod` is None without a pod, and without crictl. `kubelet` is the pid of the kubelet,
    0 where none runs (k3s and microk8s have it inside).
    """

    form: Form
    unit: str
    pid: int
    argv: list[str]
    mode: str
    answers: bool
    health: int
    config: Config
    sync: Sync | None
    version: str
    pod: Pod | None
    kubelet: int
    cilium: Cilium | None


def read_proxy(output: list[str]) -> Proxy | None:
    """The node's answer, lines that start with what they are; None without anything of Kubernetes' network in it.

    Raises ValueError, KeyError or IndexError for an answer that is not understood.
    """
    said: dict[str, list[str]] = {}
    for line in filter(None, output):
        word, _, rest = line.partition(" ")
        said.setdefault(word, []).append(rest)
    if not said.keys() & {"process", "unit", "kubelet", "cilium", "manifest"}:
        return None
    pid, name, argv, unit = 0, "", list[str](), ""
    if "process" in said:
        # The last one that was found: a parent that only waits (hyperkube's) comes first.
        number, name, line = said["process"][-1].split(" ")
        pid, argv = int(number), base64.b64decode(line).decode(errors="replace").rstrip("\0").split("\0")
        unit = _unit(said.get("cgroup", []))
    elif "unit" in said:
        unit, *argv = said["unit"][0].split()
    config = _config(said.get("config", []), argv)
    told = [line for line in said.get("mode", []) if line and not line.startswith("@http")]
    codes = [line for line in said.get("mode", []) + said.get("metric", []) if line.startswith("@http")]
    answers = any(int(code.split()[1]) == 200 for code in codes)
    metrics = [line for line in said.get("metric", []) if not line.startswith("@http")]
    return {
        "form": _form(name, unit, said),
        "unit": unit,
        "pid": pid,
        "argv": argv,
        "mode": told[0].strip() if told and "@http 200" in said["mode"] else config["mode"],
        "answers": answers,
        "health": next((int(line.split()[1]) for line in said.get("health", []) if line.startswith("@http")), 0),
        "config": config,
        "sync": _sync(metrics, float(said["clock"][0])) if metrics else None,
        "version": next(iter(re.findall(r'git_version="([^"]+)"', "\n".join(metrics))), ""),
        "pod": _pod(said),
        "kubelet": int(said.get("kubelet", ["0"])[0]),
        "cilium": _cilium(said["cilium"][0]) if "cilium" in said else None,
    }


#: A pod in the name of a control group: of the API server its uid with dashes (or the underscores of systemd's slices),
#: of a file the hash that stands for it.
_API_POD = re.compile(r"pod[0-9a-f]{8}[-_][0-9a-f]{4}[-_]")
_STATIC_POD = re.compile(r"pod[0-9a-f]{32}\b")
_UNITS: dict[str, Form] = {
    "k3s.service": "k3s",
    "k3s-agent.service": "k3s-agent",
    "snap.microk8s.daemon-kubelite.service": "microk8s",
    "snap.microk8s.daemon-proxy.service": "microk8s",
}
_NAMES: dict[str, Form] = {"k3s-server": "k3s", "k3s": "k3s", "k3s-agent": "k3s-agent", "kubelite": "microk8s"}


def _form(name: str, unit: str, said: dict[str, list[str]]) -> Form:
    groups = "\n".join(said.get("cgroup", []))
    if _STATIC_POD.search(groups):
        return "static pod"
    if _API_POD.search(groups):
        return "DaemonSet"
    if unit in _UNITS or name in _NAMES:
        return _UNITS.get(unit) or _NAMES[name]
    if unit:
        return "systemd"
    if name:
        return "process"
    return "static pod" if "manifest" in said else "none"


def _unit(groups: list[str]) -> str:
    units = re.findall(r"/([A-Za-z0-9:_.\\@-]+\.service)(?:/|$)", "\n".join(groups), re.MULTILINE)
    return units[-1] if units and "kubepods" not in "\n".join(groups) else ""


def _flag(argv: list[str], name: str) -> str:
    for at, word in enumerate(argv):
        if word.startswith(f"--{name}="):
            return word.partition("=")[2]
        if word == f"--{name}" and at + 1 < len(argv):
            return argv[at + 1]
    return ""


def _config(told: list[str], argv: list[str]) -> Config:
    """The configuration file wins over the flags, as kube-proxy has it (cmd/kube-proxy/app/server.go)."""
    config: Config = {
        "path": told[0].partition(" ")[0] if told else "",
        "mode": "",
        "sync_period": 0.0,
        "min_sync_period": 0.0,
        "scheduler": "",
        "strict_arp": False,
        "error": "",
    }
    try:
        if told:
            _from_file(config, told[0].partition(" ")[2])
        else:
            _from_flags(config, argv)
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
        config["error"] = " ".join(str(error).split())[:300]
    return config


def _from_file(config: Config, content: str) -> None:
    if not content:
        raise ValueError("the file cannot be read")
    read: dict[str, Any] = _Plain(base64.b64decode(content)[:MOST_BYTES]).get_single_data() or {}
    config["mode"] = _word(read.get("mode"))
    own: dict[str, Any] = read.get(config["mode"] or "iptables") or {}
    ipvs: dict[str, Any] = read.get("ipvs") or {}
    config["scheduler"] = _word(ipvs.get("scheduler"))
    config["strict_arp"] = ipvs.get("strictARP") is True
    config["sync_period"] = _seconds(_word(own.get("syncPeriod")))
    config["min_sync_period"] = _seconds(_word(own.get("minSyncPeriod")))


#: Bytes of the file, and brackets in brackets, that are read.
MOST_BYTES = 65_536
DEEPEST = 50


class _Plain(yaml.SafeLoader):
    """Safe YAML without aliases, which a few lines can make endless, and not deep: what kubeadm and others write."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("an alias (*) is not read")
        return super().compose_node(parent, index)

    def fetch_flow_collection_start(self, token: Any) -> None:
        if self.flow_level >= DEEPEST:
            raise ValueError("brackets too deep to be read")
        super().fetch_flow_collection_start(token)


def _word(value: Any) -> str:
    """What YAML makes of one word; "" for nothing. Raises ValueError for anything else."""
    if value is None or value is False:
        return ""
    if not isinstance(value, str | int | float):
        raise ValueError("a list or a mapping where a word belongs")
    return str(value)


def _from_flags(config: Config, argv: list[str]) -> None:
    config["mode"] = _flag(argv, "proxy-mode")
    config["scheduler"] = _flag(argv, "ipvs-scheduler")
    config["strict_arp"] = _flag(argv, "ipvs-strict-arp") == "true"
    own = "ipvs" if config["mode"] == "ipvs" else "iptables"
    config["sync_period"] = _seconds(_flag(argv, f"{own}-sync-period"))
    config["min_sync_period"] = _seconds(_flag(argv, f"{own}-min-sync-period"))


_UNITS_OF_TIME = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 0.000001, "ns": 0.000000001}


def _seconds(duration: str) -> float:
    """Go's notation: "1m30s", "500ms"; 0 for nothing. Raises ValueError for anything else."""
    if duration in ("", "0"):
        return 0.0
    parts = re.findall(r"(\d{1,9}(?:\.\d{1,9})?)(h|ms|us|ns|m|s)", duration)
    if "".join(number + unit for number, unit in parts) != duration:
        raise ValueError(f"no duration: {duration!r}")
    return sum(float(number) * _UNITS_OF_TIME[unit] for number, unit in parts)


def _sync(metrics: list[str], clock: float) -> Sync:
    values: dict[str, float] = {}
    for line in metrics:
        name, _, value = line.rpartition(" ")
        # Newer versions have a value for each IP family: the older one counts, the failures add up.
        name = name.partition("{")[0]
        if name.endswith("failures_total"):
            values[name] = values.get(name, 0.0) + float(value)
        else:
            values[name] = min(values.get(name, float(value)), float(value))
    prefix = "kubeproxy_sync_proxy_rules_"
    return {
        "last": values.get(f"{prefix}last_timestamp_seconds", 0.0),
        "last_queued": values.get(f"{prefix}last_queued_timestamp_seconds", 0.0),
        "clock": clock,
        "restore_failures": int(values.get(f"{prefix}iptables_restore_failures_total", 0.0)),
    }


def _pod(said: dict[str, list[str]]) -> Pod | None:
    try:
        containers = json.loads(base64.b64decode(said.get("crictl", [""])[0]))["containers"]
    except (ValueError, KeyError):
        return None
    if not containers:
        return None
    container = containers[0]
    labels = container.get("labels", {})
    images = dict(line.partition(" ")[::2] for line in said.get("image", []))
    return {
        "name": labels.get("io.kubernetes.pod.name", ""),
        "namespace": labels.get("io.kubernetes.pod.namespace", ""),
        "uid": labels.get("io.kubernetes.pod.uid", ""),
        "sandbox": container.get("podSandboxId", ""),
        "container": container["id"],
        "image": images.get(container["id"], "") or container.get("image", {}).get("image", ""),
    }


def _cilium(line: str) -> Cilium:
    pid, _, replacement = line.partition(" ")
    return {"pid": int(pid), "replacement": replacement}
