# Tells what of a node is compared, and what of ours is there: kind, name and value a line. With "rest": whether it is at
# rest, and no more. Changes nothing. Look of the fault suite: its own process is left out by these words.
export LC_ALL=C
if [ "$1" != rest ]; then
    places='/etc /usr/local /var/lib/dpkg/alternatives'
    find $places -xdev \( -type f -o -type l \) -printf 'file\t%p\t%y %m %U:%G %l\n'
    find $places -xdev -type f -exec sha256sum {} + | sed 's/^\([^ ]*\)  \(.*\)/sum\t\2\t\1/'
    # A run's id in a text is another one each time.
    id='[0-9]\{8\}T[0-9]\{6\}Z-[0-9a-f]\{4\}'
    grep -rls "$id" /etc /usr/local | while read -r path; do
        printf 'sum\t%s\t%s\n' "$path" "$(sed "s/$id/RUN/g" "$path" | sha256sum)"
    done
    # A legacy table that holds nothing stays registered until the next boot: it is as good as none.
    for save in iptables-nft-save iptables-legacy-save ip6tables-nft-save ip6tables-legacy-save; do
        sum=$($save 2>/dev/null | sed -e '/^#/d' -e 's/ \[[0-9:]*\]$//' -e 's/^\[[0-9:]*\] //' | awk '
            /^\*/ { table = $0; holds = 0; next }
            /^COMMIT/ { if (holds) print table; next }
            { table = table "\n" $0; if ($0 !~ /^:[A-Z]+ ACCEPT$/) holds = 1 }' | sha256sum)
        printf 'rules\t%s\t%s\n' "$save" "$sum"
    done
    cd /proc/sys/net/ipv4
    grep -s . ip_default_ttl ip_forward conf/*/rp_filter conf/*/forwarding | sed 's/^\([^:]*\):/setting\t\1\t/'
    find /tmp /var/tmp /run/dnsmend -mindepth 1 -maxdepth 2 -not -path '*systemd-private*' -not -path /run/dnsmend/lock \
        -printf 'temporary\t%p\t%y\n' 2>/dev/null
    for step in /var/lib/dnsmend/*/*/; do
        [ -d "$step" ] || continue
        state=open
        [ ! -e "$step/proven" ] || state=proven
        [ ! -e "$step/undone" ] || state=undone
        [ -e "$step/sums" ] || state=unsealed
        printf 'step\t%s\t%s\n' "$step" $state
    done
fi
# After a boot systemd remembers the unit that has run then, and removed itself, until somebody's daemon-reload.
systemctl list-units --all --plain --no-legend 'dnsmend*' | while read -r name _; do
    case $name in
        dnsmend-undo-*) systemctl is-active -q "$name" || [ -e "$(systemctl show -p FragmentPath --value "$name")" ] || continue ;;
    esac
    printf 'unit\t%s\tseen\n' "$name"
done
printf 'active\tdnsmasq\t%s\n' "$(systemctl is-active dnsmasq)"
# A shell carries its script in its arguments; what only reads says nothing of us but this. Installed guards run when
# their timers say so: it is their units that are compared.
for process in $(grep -slE 'dnsmend|@dns probes|^silent=' /proc/[0-9]*/cmdline); do
    ! grep -qsE '/dnsmend-(probe|backend|boot)\.service$' "${process%cmdline}cgroup" || continue
    words=$(tr '\0\n' '  ' < "$process" 2>/dev/null)
    case $words in
        '' | *'ook of the fault suite'* | grep*) ;;
        *) printf 'process\t%s\t%.100s\n' "$process" "$words" ;;
    esac
done
for lock in /run/dnsmend.lock /run/xtables.lock; do
    [ ! -e $lock ] || flock -n $lock true || printf 'held\t%s\tyes\n' $lock
done
[ ! -e /run/dnsmend/lock ] || sed 's/^\([a-z]*\) \(.*\)/lock\t\1\t\2/' /run/dnsmend/lock
printf 'now\tup\t%s\n' "$(cut -d. -f1 /proc/uptime)"
find /var/lib/dnsmend -mindepth 2 \( -name timer -printf 'waits\t%p\tyes\n' -o -name '*.new' -printf 'begun\t%p\tyes\n' \) 2>/dev/null
true
