#!/bin/sh
# Creates a virtual environment with pip: `create_venv.sh DIRECTORY`. PYTHON names the interpreter to use instead of the
# first fitting one. Works where Debian has split `venv` from Python, as long as pip or uv is somewhere.
set -eu

directory=$1
fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))'
complete='import ensurepip, venv'
candidates=${PYTHON:-python3.13 python3.12 python3.11 python3.14 python3 python}

# The first interpreter that fits and passes a test; nothing if there is none.
first_python() {
    for candidate in $candidates; do
        if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c "$fits" >/dev/null 2>&1 &&
            "$candidate" -c "$1" >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
}

fail() {
    rm -rf "$directory"
    printf 'error: %s\n' "$@" >&2
    exit 1
}

if "$directory/bin/python" -m pip --version >/dev/null 2>&1; then
    exit 0
fi

fitting=$(first_python pass)
[ -n "$fitting" ] || fail "Python 3.11 to 3.14 is needed, none found among: $candidates." \
    "Install one, or name it: make PYTHON=/path/to/python3 …"

python=$(first_python "$complete")
if [ -n "$python" ]; then
    echo "Creating $directory with $("$python" --version) …"
    exec "$python" -m venv --clear "$directory"
fi

echo "Creating $directory with $("$fitting" --version), which has no ensurepip …"
if command -v uv >/dev/null 2>&1; then
    exec uv venv --quiet --seed --clear --python "$fitting" "$directory"
fi
with_pip=$(first_python 'import pip')
if [ -n "$with_pip" ] && "$fitting" -m venv --clear --without-pip "$directory" &&
    "$with_pip" -m pip --python "$directory/bin/python" install --quiet --disable-pip-version-check pip; then
    exit 0
fi
version=$("$fitting" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
fail "$fitting has neither ensurepip nor pip, so no packages can be installed." \
    "On Debian or Ubuntu: apt-get install python$version-venv. Elsewhere: install uv, or a complete Python."
