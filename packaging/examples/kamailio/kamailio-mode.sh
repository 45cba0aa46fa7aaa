#!/bin/sh
# Mode command of Takeover's agent for Kamailio: kamailio-mode.sh MODE EPOCH. Exit code 0 confirms.
#
# Puts the run mode into the hash table that kamailio.cfg looks at. A process that is not there yet cannot be told, and
# the agent tells it again when it is ready.
set -eu

case "${1:-}" in
    primary | backup | exiting) mode=$1 ;;
    *)
        echo "usage: $0 primary|backup|exiting EPOCH" >&2
        exit 2
        ;;
esac

socket=${KAMAILIO_CTL:-unix:/run/kamailio/kamailio_ctl}
kamcmd -s "$socket" htable.sets takeover epoch "${2:-0}" >/dev/null
kamcmd -s "$socket" htable.sets takeover mode "$mode" >/dev/null
# What counts is what is there now.
kamcmd -s "$socket" htable.get takeover mode | grep -q "$mode"
