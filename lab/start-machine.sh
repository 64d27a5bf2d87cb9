#!/bin/sh
# Run by lab/machine.py in a mount namespace of its own: joins the machine's control groups, mounts its overlay and
# becomes the command that starts it.
#
# $1 control groups (one per line), $2 lower, $3 upper, $4 work, $5 merged; the rest is the command.
set -eu
for group in $1; do
    echo $$ >"$group/cgroup.procs"
done
mount -t overlay dnsmend-lab -o "lowerdir=$2,upperdir=$3,workdir=$4,redirect_dir=off,index=off,metacopy=off" "$5"
shift 5
# A node sets its own network up, so its /proc/sys/net must be writable (systemd, docs/ENVIRONMENT.md).
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
exec "$@"
