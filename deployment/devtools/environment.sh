#!/bin/sh
# The project's own Python environment, without touching anyone else's: make it, add what the bench compares with, lock
# it again, remove it.
# Called by the Makefile. It needs Python 3.11 or newer; uv comes from PATH, else from a wheel into .onetake/bootstrap.
set -eu
cd "$(dirname "$0")/../.."

BOOTSTRAP=.onetake/bootstrap

say() { printf '%-11s %s\n' environment "$*" >&2; }

fail() {
    say "$*"
    exit 1
}

is_fit() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

# The newest Python that runs; a name on PATH may be a shim that does not.
find_python() {
    for candidate in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3}; do
        if is_fit "$candidate"; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    fail "no Python 3.11 or newer found (tried ${PYTHON:-python3.14 to python3.11 and python3}); install one, or name it: make PYTHON=/path/to/python3"
}

# uv on PATH when it is recent enough to know hashed, universal requirement files.
find_uv() {
    for candidate in uv "$BOOTSTRAP/bin/uv"; do
        version=$("$candidate" --version 2>/dev/null) || continue
        case $version in
        "uv 0."[0-4].*) continue ;;
        esac
        command -v "$candidate"
        return
    done
    bootstrap_uv "$1"
}

bootstrap_uv() {
    say "uv is not on PATH: installing it into $BOOTSTRAP"
    mkdir -p "$BOOTSTRAP"
    if "$1" -c 'import ensurepip' >/dev/null 2>&1; then
        "$1" -m venv --clear "$BOOTSTRAP" >&2
        "$BOOTSTRAP/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt >&2
    elif "$1" -m pip --version >/dev/null 2>&1; then
        "$1" -m pip install --quiet --disable-pip-version-check --target "$BOOTSTRAP" --require-hashes -r requirements/uv.txt >&2
    else
        fail "$1 has neither ensurepip nor pip (on Debian and Ubuntu: apt install python3-venv); or install uv"
    fi
    echo "$BOOTSTRAP/bin/uv"
}

make_environment() {
    python=$(find_python)
    uv=$(find_uv "$python")
    if ! is_fit .venv/bin/python; then
        say "making .venv with $("$python" --version)"
        "$uv" venv --quiet --clear --no-python-downloads --python "$python" .venv
    fi
    say "installing requirements/dev.txt"
    # Compiled once, here: uv leaves it to each process, and a stack or a test run starts dozens that import everything.
    "$uv" pip sync --compile-bytecode --python .venv/bin/python --require-hashes requirements/dev.txt >&2
    "$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable . >&2
    say "ready in .venv"
}

# A peer that cannot be installed is left out by the bench, which says so.
add_bench() {
    if .venv/bin/python -c 'import sys, importlib.util; sys.exit(importlib.util.find_spec("dbos") is None)'; then
        return
    fi
    uv=$(find_uv "$(find_python)")
    say "adding requirements/bench.txt"
    "$uv" pip install --quiet --python .venv/bin/python --require-hashes -r requirements/bench.txt >&2 || say "it could not be installed"
}

compile() { "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate "$@" >/dev/null; }

lock() {
    uv=$(find_uv "$(find_python)")
    compile pyproject.toml --output-file requirements/run.txt
    compile pyproject.toml --extra otel --constraints requirements/run.txt --output-file requirements/otel.txt
    compile pyproject.toml --group dev --constraints requirements/run.txt --output-file requirements/dev.txt
    compile --group bench --constraints requirements/dev.txt --output-file requirements/bench.txt
    compile --group image --constraints requirements/dev.txt --output-file requirements/image.txt
    for tool in deployment go uv; do
        compile "requirements/$tool.in" --output-file "requirements/$tool.txt"
    done
    say "requirements/*.txt are locked"
}

# A stack writes its process id into its lock and empties it when it ends; a killed one leaves the id of nobody.
refuse_while_running() {
    for lock in .onetake/stack.lock .onetake/*/stack.lock; do
        [ -s "$lock" ] || continue
        pid=$(cat "$lock")
        if kill -0 "$pid" 2>/dev/null && ps -p "$pid" -o args= | grep -qi -e onetake -e python; then
            fail "a stack is running here (pid $pid): stop it with Ctrl-C or \`kill $pid\`, then try again"
        fi
    done
}

clean() {
    refuse_while_running
    for place in .onetake/postgres .onetake/*/postgres; do
        if [ -L "$place" ]; then rm -rf "$(readlink "$place")"; fi # as root the database may lie outside, see postgres.py
    done
    rm -rf .venv .onetake .pytest_cache .ruff_cache .hypothesis .import_linter_cache
    find . -name __pycache__ -type d -prune -exec rm -rf {} +
    say "removed .venv, .onetake and the caches"
}

case ${1:-} in
make) make_environment ;;
bench) add_bench ;;
lock) lock ;;
clean) clean ;;
*) fail "usage: $0 make|bench|lock|clean" ;;
esac
