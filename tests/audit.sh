#!/usr/bin/env bash
# Asks the Python Package Index for known weaknesses of the installed versions, by pip-audit. It fails where a weakness
# is known, and also where a version could not be looked up: what was not asked is not sound.
# Usage: tests/audit.sh PYTHON PIP_AUDIT
set -u
python=$1
audit=$2
versions=$(mktemp)
said=$(mktemp)
trap 'rm -f "$versions" "$said"' EXIT

# PyTorch's builds for one device, such as 2.9.0+cpu, are listed under the version alone.
"$python" -m pip --disable-pip-version-check freeze --exclude-editable 2>"$said" | sed -n 's/^\([^ ]*==[^+]*\).*/\1/p' >"$versions"
if [ ! -s "$versions" ]; then
    echo "audit: the installed versions could not be listed:"
    cat "$said"
    exit 2
fi
if "$audit" --strict --no-deps --disable-pip --progress-spinner off --requirement "$versions" >"$said" 2>&1; then
    echo "audit: no weakness is known of $(wc -l <"$versions") installed versions"
    exit 0
fi
grep -v "^WARNING" "$said" | tail -n 40
if grep -qE "could not be audited|ConnectionError|Max retries|HTTPError|ServiceError|Timeout" "$said"; then
    echo "audit: it did NOT run to its end, because the index of weaknesses could not be asked; nothing is known"
    exit 2
fi
echo "audit: weaknesses are known of installed versions (see above)"
exit 1
