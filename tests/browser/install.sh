#!/usr/bin/env bash
# Chromium for the browser tests: installs Debian's package where none is there, and says what to do where it cannot.
set -euo pipefail

names="chromium chromium-browser google-chrome"

# Ubuntu has a command of the same name that only says where the browser could be had from.
find_browser() {
    for name in $names; do
        if command -v "$name" >/dev/null && "$name" --version >/dev/null 2>&1; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

give_up() {
    echo "The browser tests need Chromium, and there is none: $1." >&2
    echo "Install Chromium or Google Chrome so that one of these commands is on the PATH: $names." >&2
    echo "On Debian, as root: apt-get install chromium" >&2
    exit 1
}

if browser=$(find_browser); then
    echo "Chromium is there: $browser"
    exit 0
fi
command -v apt-get >/dev/null || give_up "this script installs it with apt-get, which this system does not have"
[ "$(id -u)" = 0 ] || give_up "only root may install it"

echo "installing Chromium with apt-get"
export DEBIAN_FRONTEND=noninteractive
install="apt-get install --quiet --yes --no-install-recommends chromium"
# A fresh container has no list of packages; an old list names files that are gone.
$install >/dev/null 2>&1 || { apt-get update --quiet >/dev/null && $install >/dev/null; } || give_up "apt-get failed"
browser=$(find_browser) || give_up "the package 'chromium' of this system brings no browser that starts"
echo "Chromium is there: $browser"
