#!/bin/bash
# A node of the test bed, as process 1 of its own namespaces: its end is the end of all that runs on the node.
# Arguments: folder of the test bed, name, address, gateway; folders that stay where they are below a /tmp of its own,
# which a node has if there are any.
set -eu
folder=$1 name=$2 address=$3 gateway=$4
shift 4
hostname "$name"
mount -t proc proc /proc
mount -t tmpfs -o size=1g,mode=1777 tmpfs /dev/shm
mount --bind "$folder/etc/hosts" /etc/hosts
mount --bind "$folder/etc/nsswitch.conf" /etc/nsswitch.conf # the names above only: looking elsewhere takes seconds
if [ $# -gt 0 ]; then
    private="$folder/run/$name.tmp"
    mkdir -p "$private"
    mount -t tmpfs -o mode=1777 tmpfs "$private"
    for kept in "$@"; do
        [ "${kept#/tmp/}" = "$kept" ] && continue
        mkdir -p "$private/${kept#/tmp/}"
        mount --bind "$kept" "$private/${kept#/tmp/}"
    done
    mount --move "$private" /tmp
fi
for _ in $(seq 2000); do
    ip link show eth0 >/dev/null 2>&1 && break
    sleep 0.05
done
ip address add "$address/24" dev eth0
ip link set lo up
ip link set eth0 up
ip route add default via "$gateway" # so that "which address is mine" is answered with the node's
if [ -n "${CLIENT:-}" ]; then # of the shared folder; words as a shell quotes them
    umount --lazy "$folder/shared" 2>/dev/null || true # this machine's, which a node that starts again has inherited
    eval "$CLIENT &"
    until mountpoint -q "$folder/shared"; do sleep 0.05; done
    unset CLIENT
fi
slurmd -D -N "$name" &              # bash stays process 1 and waits for orphans
wait $!
