#!/bin/busybox sh
# The first program of a node: finds the disk, puts the node's own files on it, sets the network up, starts systemd.
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /seed /root
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module"; done </modules/order
mount -o noatime /dev/vda /root
tar -x -f /dev/vdb -C /seed
cp -a /seed/files/. /root/
# The names that the rest of the lab knows, by the order in which the links were given to the machine.
ip link set eth0 name bond0
ip link set eth1 name mgmt0
ip link set lo up
chroot /root /usr/sbin/ip -batch - </seed/network
rm -rf /seed
umount /proc
umount /sys
mount --move /dev /root/dev
exec switch_root /root /lib/systemd/systemd
