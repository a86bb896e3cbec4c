#!/bin/sh
# Installs a lock file and this project, editable, into a virtual environment: `install_locked.sh VENV LOCK`.
# uv, itself from the lock, is the quick way; pip is the way where uv cannot reach what pip is configured for.
set -eu

python=$1/bin/python
lock=$2
project="--no-deps --no-build-isolation --editable ."

pip_install() {
    "$python" -m pip install --quiet --disable-pip-version-check --no-input "$@"
}

uv_install() {
    "$1" pip install --quiet --python "$python" --require-hashes --requirement "$lock" &&
        "$1" pip install --quiet --python "$python" $project
}

# The lines of the lock that pin uv.
only_uv=$1/uv.lock
awk '/^[a-z0-9]/ { wanted = /^uv==/ } wanted' "$lock" >"$only_uv"

echo "Installing $lock into $1: about half a minute the first time …"
if [ -s "$only_uv" ] && ! "$python" -m pip config list 2>/dev/null | grep -Eq 'index-url|no-index' &&
    pip_install --require-hashes --requirement "$only_uv" && uv_install "$1/bin/uv"; then
    exit 0
fi
echo "Installing with pip instead …"
pip_install --require-hashes --requirement "$lock"
pip_install $project
