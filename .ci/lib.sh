# Shared by .ci/run and its stages; sourced, not run. A stage works in the repository's root, prints what it finds,
# and adds its counts with `tally`.

export CARGO_TERM_COLOR=never
BINARY=${CARGO_TARGET_DIR:-target}/shipped/postseal # made by the build stage, as images and packages have it
ARM64_BINARY=${CARGO_TARGET_DIR:-target}/shipped/postseal-arm64 # made by its own stage
case $(uname -m) in # as Debian and Docker call it
x86_64) ARCHITECTURE=amd64 ;;
aarch64) ARCHITECTURE=arm64 ;;
*) ARCHITECTURE=$(uname -m) ;;
esac
SHARED=${CI_SHARED:-../shared} # scenarios and the differential tester
PYTHON=/usr/bin/python3 # the one that Debian's python3-* packages belong to

# tally PASSED FAILED SKIPPED
tally() { echo "$1 $2 $3" >>"$CI_TALLY"; }

# Says why something is left out, and counts it.
skip() {
    echo "skipped: $*"
    tally 0 0 1
}

# Runs one command that is one check, and counts it.
check() {
    echo "+ $*"
    if "$@"; then tally 1 0 0; else
        echo "failed: $*"
        tally 0 1 0
        return 1
    fi
}

# Debian packages that are not there yet; their services are kept from starting. False when that cannot be had.
need_packages() {
    local missing=() package policy=/usr/sbin/policy-rc.d code=0
    for package; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "not installed, and no root with apt-get to install them: ${missing[*]}"
        return 1
    fi
    echo "installing ${missing[*]}"
    local made=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && made=1
    fi
    export DEBIAN_FRONTEND=noninteractive
    {
        apt-get -o DPkg::Lock::Timeout=300 update &&
            apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${missing[@]}"
    } >"$CI_WORK/apt.log" 2>&1 || code=1
    [ -z "$made" ] || rm -f "$policy"
    [ $code -eq 0 ] || tail -n 20 "$CI_WORK/apt.log"
    return $code
}

# Network namespaces of our own: what the end-to-end and the differential test run in.
need_namespaces() {
    if [ "$(id -u)" -ne 0 ]; then
        echo "network namespaces need root"
        return 1
    fi
    unshare --net --mount --pid --fork --kill-child --mount-proc true
}

need_binary() {
    [ -x "$BINARY" ] && return 0
    echo "no $BINARY: the build failed"
    return 1
}

# Passes the output of a check script on, counts its "ok" and "FAIL" lines.
tally_lines() {
    tee "$CI_WORK/lines.log"
    tally "$(grep -c '^ok ' "$CI_WORK/lines.log")" "$(grep -c '^FAIL ' "$CI_WORK/lines.log")" 0
}
