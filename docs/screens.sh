#!/usr/bin/env bash
# Captures the live line of real sessions, as tmux shows it at 80 columns:
#
#     docs/screens.sh [SECONDS]
#
# writes docs/screens/live-80.txt and live-80-xdist.txt, each SECONDS (default 8) after the first run
# has ended. Needs tmux, and pytest-siren in the environment (such as .venv/bin in PATH).
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-8}
server=siren-screens-$$
jobs=$(mktemp -d)

t() { tmux -L "$server" -f /dev/null "$@"; }

finish() {
    t kill-server 2>/dev/null || true
    rm -rf "$jobs"
}
trap finish EXIT

capture() { # NAME COMMAND
    t new-session -d -s "$1" -x 80 -y 24 env -u CI -u BUILD_NUMBER PS1='$ ' "PATH=$PATH" bash --norc -i
    t send-keys -t "$1" "export PYTEST_ADDOPTS='--no-header --jobs-dir $jobs'; clear" Enter
    sleep 1
    t send-keys -t "$1" "$2" Enter
    for ((waited = 0; waited < 120; waited++)); do
        t capture-pane -p -t "$1" | tail -n 1 | grep -Eq '^siren [1-9]' && break
        sleep 1
    done
    ((waited < 120)) || { echo "$0: no live line within 2 minutes of: $2" >&2; exit 1; }
    sleep "$seconds"
    t capture-pane -p -t "$1" > "docs/screens/$1.txt"
    # Ctrl-C, so that the next session does not share the machine with this one.
    t send-keys -t "$1" C-c
    sleep 5
    t kill-session -t "$1"
}

mkdir -p docs/screens
t new-session -d -s keep
capture live-80 'pytest evals/ --attack=template_string'
capture live-80-xdist 'pytest evals/ --attack=template_string -n 2'
