#!/bin/sh
# A VIP control script of one's own: does with iproute2 and arping what the agent's built-in control does. Copy it
# to the hosts, change what has to be different, and name it under [scripts.NAME] in the cluster file.
#
#   vip-control.sh enable     puts the VIP onto the interface and announces it
#   vip-control.sh disable    removes it
#
# The agent gives the facts in the environment: TAKEOVER_VIP (address/prefix length), TAKEOVER_INTERFACE,
# TAKEOVER_EPOCH, TAKEOVER_MODE, ... Both verbs may come twice and must then do no harm. Callers wait while this runs,
# so nothing in here waits: announcements go on in the background. Exit codes: 0 done, 1 failed, 2 called wrongly.
#
# Needs: ip (iproute2); to announce: arping (Debian package iputils-arping) for IPv4, ndptool (libndp-tools) for IPv6.
set -u

usage() {
    echo "usage: TAKEOVER_VIP=ADDRESS/PREFIX TAKEOVER_INTERFACE=NAME $0 enable|disable" >&2
    exit 2
}

fail() {
    echo "cannot $verb $vip on $interface: $*" >&2
    exit 1
}

# The address with each prefix length that it has on the interface; nothing if it is not there.
present() {
    ip -o "$family" addr show dev "$interface" to "$address" 2>/dev/null | awk '{ print $4 }'
}

# Each command repeats at its own pace, and is on its own: it must not keep this script's output open.
announce() {
    if [ "$family" = -4 ]; then
        command -v arping >/dev/null || { echo "arping is missing: $address is not announced" >&2; return; }
        arping -q -U -c 3 -I "$interface" "$address" </dev/null >/dev/null 2>&1 &
        arping -q -A -c 3 -I "$interface" "$address" </dev/null >/dev/null 2>&1 &
    else
        command -v ndptool >/dev/null || { echo "ndptool is missing: $address is not announced" >&2; return; }
        for delay in 0 1 2; do
            { sleep "$delay"; ndptool -t na -U -i "$interface" -T "$address" send; } </dev/null >/dev/null 2>&1 &
        done
    fi
}

enable_vip() {
    # IPv6: without duplicate address detection, which would keep the address silent for a second; and not to be
    # chosen as the source of other traffic.
    if [ "$family" = -6 ]; then set -- nodad preferred_lft 0; else set --; fi
    if message=$(ip "$family" addr add "$vip" dev "$interface" "$@" 2>&1); then
        done="enabled"
    elif [ -n "$(present)" ]; then
        done="was enabled already:"
    else
        fail "$message"
    fi
    announce
}

disable_vip() {
    done="was disabled already:"
    found=$(present)
    # Without this, the first IPv4 address of a subnet takes all others with it when it goes.
    promote=/proc/sys/net/ipv4/conf/$interface/promote_secondaries
    if [ -n "$found" ] && [ "$family" = -4 ] && [ "$(cat "$promote")" = 0 ]; then
        echo 1 >"$promote" || fail "$promote is 0 and cannot be set"
    fi
    for listed in $found; do
        message=$(ip "$family" addr del "$listed" dev "$interface" 2>&1)
        done="disabled"
    done
    [ -z "$(present)" ] || fail "$message"
}

verb=${1-}
vip=${TAKEOVER_VIP-}
interface=${TAKEOVER_INTERFACE-}
address=${vip%/*}
case $vip in
    *:*/*) family=-6 ;;
    *.*/*) family=-4 ;;
    *) usage ;;
esac
[ -n "$interface" ] || usage
case $verb in
    enable) enable_vip ;;
    disable) disable_vip ;;
    *) usage ;;
esac
echo "$done $vip on $interface (epoch ${TAKEOVER_EPOCH-unknown}, ${TAKEOVER_MODE-no mode})"
