"""How a node runs kube-proxy, in which mode, and when it last wrote its rules."""

from __future__ import annotations

from typing_extensions import override

from facts.kube_proxy_answer import Proxy, read_proxy
from facts.reading import NodeFact
from facts.units import FOLDERS

# Processes of other network namespaces (a node in a container, on the machine that is read) are not this node's.
# Anybody can give a process one of these names, and arguments that name a file which only root may read: only root's
# count, as whom all of them run.
# A configuration in a container is read below /proc/PID/root, where a relative link (a ConfigMap's ..data) holds.
_SCRIPT = r"""
[ "${euid:-$(id -u)}" = 0 ] || { echo "only root sees another user's network namespace" >&2; exit 77; }
home=$(readlink /proc/self/ns/net)
pid=0 unit= root= command= config=
get() {
    if command -v curl >/dev/null; then
        curl -q -s -g -m 3 --noproxy '*' -w '\n@http %{http_code}\n' "http://$1$2"
    elif command -v bash >/dev/null; then
        timeout 3 bash -c '
            host=${0%:*}
            exec 3<>"/dev/tcp/${host//[][]/}/${0##*:}" || exit 7
            printf "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n" "$1" "$0" >&3
            tr -d "\r" <&3' "$1" "$2" 2>/dev/null | awk '
            NR == 1 { code = $2; next }
            body
            /^$/ { body = 1 }
            END { print "\n@http " code + 0 }'
    else
        echo "neither curl nor bash to ask kube-proxy with" >&2
    fi
}
for comm in /proc/[0-9]*/comm; do
    read -r name <"$comm" || continue
    case $name in
        kube-proxy | hyperkube | k3s-server | k3s-agent | k3s | kubelite | kubelet | cilium-agent) ;;
        *) continue ;;
    esac
    dir=${comm%/comm}
    [ "$(readlink "$dir/ns/net")" = "$home" ] || continue
    grep -q '^Uid:[[:space:]]*0[[:space:]]' "$dir/status" || continue
    found=${dir#/proc/}
    case $name in
        hyperkube) tr '\0' ' ' <"$dir/cmdline" | grep -q 'kube-\{0,1\}proxy' || continue ;;
        kubelet) echo "kubelet $found"; continue ;;
        cilium-agent)
            told=$(tr '\0' '\n' <"$dir/cmdline" | sed -n 's/^--kube-proxy-replacement=//p')
            file=$dir/root/tmp/cilium/config-map/kube-proxy-replacement
            [ -n "$told" ] || told=$(head -c 100 "$file" 2>/dev/null)
            printf '%s\n' "cilium $found $told"
            continue ;;
    esac
    pid=$found
    echo "process $pid $name $(base64 -w 0 "$dir/cmdline")"
    sed 's/^/cgroup /' "$dir/cgroup"
    root=$dir/root
    command=$(tr '\0' '\n' <"$dir/cmdline")
done 2>/dev/null
if [ "$pid" = 0 ] && command -v systemctl >/dev/null; then
    # systemd is asked of those only that have a file.
    for unit in kube-proxy k3s k3s-agent snap.microk8s.daemon-kubelite snap.microk8s.daemon-proxy; do
        unit=$unit.service found=
        for folder in @FOLDERS@; do [ ! -e "$folder/$unit" ] || { found=$folder; break; }; done
        [ -n "$found" ] && [ "$(systemctl show "$unit" -p LoadState --value 2>/dev/null)" = loaded ] || continue
        started=$(systemctl show "$unit" -p ExecStart --value | sed -n '1s/.*argv\[\]=\([^;]*\) ;.*/\1/p')
        printf '%s\n' "unit $unit $started"
        command=$(printf '%s\n' $started)
        break
    done
fi
for manifest in /etc/kubernetes/manifests /var/lib/rancher/rke2/agent/pod-manifests; do
    for file in "$manifest"/kube-proxy*; do [ ! -e "$file" ] || echo "manifest $file"; done
done
[ -z "$command" ] ||
    config=$(printf '%s\n' "$command" | sed -n -e '/^--config$/{n;p;q;}' -e 's/^--config=//p' | head -n 1)
if [ -n "$config" ] && [ -r "$root$config" ]; then
    printf '%s\n' "config $config $(head -c 65536 "$root$config" | base64 -w 0)"
elif [ -n "$config" ]; then
    printf '%s\n' "config $config"
fi
[ "$pid" != 0 ] || exit 0
address() {
    told=$(sed -n "s/^$2:[[:space:]]*//p" "$root$config" 2>/dev/null | tr -d "\"' " | head -n 1)
    [ -n "$told" ] || told=$(printf '%s\n' "$command" | sed -n "s/^--$1=//p")
    case $told in
        "") echo "127.0.0.1:$3" ;;
        0.0.0.0* | "[::]"*) echo "127.0.0.1:${told##*:}" ;;
        *:*) echo "$told" ;;
        *) echo "$told:$3" ;;
    esac
}
metrics=$(address metrics-bind-address metricsBindAddress 10249)
health=$(address healthz-bind-address healthzBindAddress 10256)
said=$(get "$metrics" /proxyMode | head -c 1000)
case "$metrics $said" in
    # Where it is bound to an IPv6 address, this is the default (pkg/proxy/apis/config/v1alpha1/defaults.go).
    "127.0.0.1:10249 "*"@http 0"*) metrics="[::1]:10249" said=$(get "[::1]:10249" /proxyMode | head -c 1000) ;;
esac
printf '%s\n' "$said" | sed 's/^/mode /'
get "$metrics" /metrics |
    grep -E '^(@http|kubernetes_build_info|kubeproxy_sync_proxy_rules_(last|iptables_restore_failures))' |
    head -n 20 | sed 's/^/metric /'
echo "clock $(date +%s.%N)"
get "$health" /healthz | head -c 1000 | sed 's/^/health /'
# RKE2 keeps crictl and its configuration to itself.
PATH="$PATH:/var/lib/rancher/rke2/bin"
rke2=/var/lib/rancher/rke2/agent/etc/crictl.yaml
[ ! -r "$rke2" ] || export CRI_CONFIG_FILE="${CRI_CONFIG_FILE:-$rke2}"
if command -v crictl >/dev/null && grep -q kubepods "/proc/$pid/cgroup"; then
    containers=$(timeout 5 crictl ps --name '^kube-proxy$' -o json | head -c 100000)
    echo "crictl $(printf '%s' "$containers" | base64 -w 0)"
    for id in $(printf '%s\n' "$containers" | sed -n 's/^ \{6\}"id": "\([0-9a-f]*\)".*/\1/p' | head -n 3); do
        echo "image $id $(timeout 5 crictl inspect -o go-template --template '{{.status.image.image}}' "$id")"
    done
fi
"""


class KubeProxy(NodeFact[Proxy | None]):
    """kube-proxy's form, configuration, mode, version and last sync, and what stands beside it. Needs root.

    "empty" means that the node has neither kube-proxy, nor a kubelet, nor Cilium's agent.
    Sources: proc(5), the cgroup's name for the form (a static pod's uid is a hash without dashes, kubernetes
    pkg/kubelet/config/common.go), kube-proxy's /proxyMode, /metrics and /healthz, crictl(1), systemctl(1).

    .. code:: python

        {
            "form": "systemd", "unit": "kube-proxy.service", "pid": 2335,
            "argv": ["/usr/local/bin/kube-proxy", "--config=/etc/kube-proxy.yaml", "--v=2"],
            "mode": "ipvs", "answers": True, "health": 200,
            "config": {"path": "/etc/kube-proxy.yaml", "mode": "ipvs", "sync_period": 0.0, "min_sync_period": 0.0,
                       "scheduler": "", "strict_arp": False, "error": ""},
            "sync": {"last": 1795302648.4, "last_queued": 1795302646.1, "clock": 1795302653.1, "restore_failures": 0},
            "version": "v1.20.2", "pod": None, "kubelet": 0, "cilium": None,
        }
    """

    limit = 30
    script = _SCRIPT.replace("@FOLDERS@", " ".join(FOLDERS))

    @staticmethod
    @override
    def nothing() -> Proxy | None:
        return None

    @override
    def read(self, output: list[str]) -> Proxy | None:
        return read_proxy(output)
