#!/bin/sh
# Installs the Debian packages that the demo and the tests use, if they are missing. Says what it installs.
# Usage: install-packages.sh [PYTHON]
set -eu

# command it provides : package
wanted="nft:nftables ip:iproute2 conntrack:conntrack openssl:openssl iptables:iptables"

missing=""
for pair in $wanted; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
# Debian's own python3 comes without what `python3 -m venv` needs.
"${1:-python3}" -c "import ensurepip, venv" 2>/dev/null || missing="$missing python3-venv"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
    echo "setup: please install:$missing (needed for the lab and the data-path tests)" >&2
    exit 0
fi
echo "setup: installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null
