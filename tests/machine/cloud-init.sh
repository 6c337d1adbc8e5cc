#!/bin/bash
# DESCRIPTION: a stock cloud-init image lets its user in by --ssh-key and takes --hostname.
. "$(dirname "$0")/lib.sh"
requires_stock_kvm cloud
disk=$(overlay cloud c)
network tapc 10.99.3
ssh-keygen -q -t ed25519 -N '' -f "$work/id"

start c "$disk" --net tap=tapc --ssh-key "$work/id.pub" --hostname stranger -m 1G
expect c 'login:' 500
say "login prompt"
answers 10.99.3.10 120
deadline=$((SECONDS + 300))
until as_user=$(in_guest_as debian 10.99.3.10 'hostname; sudo -n id -u' 2>/dev/null); do
    ((SECONDS < deadline)) || fail "the key does not let 'debian' in"
    sleep 5
done
[[ $as_user == stranger$'\n'0 ]] || fail "hostname or sudo: $as_user"
"$vmm" stop c --timeout 200 || fail "vmm stop"
ends c 5 0
