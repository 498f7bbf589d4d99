#!/bin/sh
# A remote shell to a host that does not exist: runs the command here under that host's name. mpirun starts its daemons
# through it (plm_rsh_agent), so that one machine looks like several nodes.
# usage: fake_rsh.sh [options] HOST COMMAND...
while [ "${1#-}" != "$1" ]; do shift; done
host=$1
shift
# shellcheck disable=SC2016 # the inner shell expands them
if [ "$(id -u)" = 0 ]; then
  exec unshare --uts sh -c 'hostname "$0" && eval "$@"' "$host" "$*"
fi
# shellcheck disable=SC2016
exec unshare --user --map-root-user --uts sh -c 'hostname "$0" && eval "$@"' "$host" "$*"
