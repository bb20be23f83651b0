# Sourced by the commands in hack/: brings Node 26 and the npm packages, and puts them first in PATH.
# On return `node` is the one the project is made for. Needs nothing but Debian's base system and root.

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

bootstrap_say() { printf '%s\n' "$*" >&2; }

# Runs a long command quietly; shows the end of its log and what to try next if it fails.
bootstrap_step() {
  local title=$1 advice=$2 log started=$SECONDS
  shift 2
  log=$(mktemp "${TMPDIR:-/tmp}/typevisor-bootstrap.XXXXXX.log")
  bootstrap_say "$title ..."
  if ! "$@" >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    bootstrap_say "$title: failed (whole log: $log)"
    bootstrap_say "Next: $advice"
    return 1
  fi
  rm -f "$log"
  bootstrap_say "$title: done in $((SECONDS - started)) s"
}

bootstrap_apt() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get update && apt-get install -y --no-install-recommends "$@"
}

# Any Node can run npm; the project's own Node comes with the npm packages.
bootstrap_npm() {
  command -v npm >/dev/null && command -v node >/dev/null && return
  if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    bootstrap_say "npm is missing. Next: install Node.js with npm, or run this as root on Debian 12 or newer."
    return 1
  fi
  bootstrap_step "Installing npm from Debian (about 2 minutes)" \
    "check the network and /etc/apt/sources.list, then run 'apt-get install npm'" \
    bootstrap_apt nodejs npm ca-certificates
}

# The Node of the npm packages is linked against two libraries that a minimal Debian lacks.
bootstrap_node_libraries() {
  "$repository/node_modules/.bin/node" --version >/dev/null 2>&1 && return
  bootstrap_step "Installing the libraries of Node (about 10 seconds)" \
    "as root, run 'apt-get install libatomic1 libstdc++6'" \
    bootstrap_apt libatomic1 libstdc++6
}

# npm's own record of what it installed, against what package-lock.json asks for.
bootstrap_packages_current() {
  [ -x "$repository/node_modules/.bin/node" ] && [ -f "$repository/node_modules/.package-lock.json" ] || return 1
  bootstrap_node_libraries || return 1
  "$repository/node_modules/.bin/node" "$repository/hack/lib/packages-current.mjs" "$repository"
}

bootstrap() {
  if ! bootstrap_packages_current; then
    bootstrap_npm || return 1
    exec 8<"$repository/package-lock.json"
    flock 8
    # Whoever held the lock may have done it meanwhile.
    if ! bootstrap_packages_current; then
      # Not `npm ci`: it refuses a lock without the binaries of other platforms, which some registries do not carry.
      bootstrap_step "Installing npm packages (about 30 seconds)" \
        "check that the npm registry can be reached, then run 'npm install --no-save'" \
        npm install --no-save --prefix "$repository" || return 1
    fi
    exec 8<&-
    bootstrap_node_libraries || return 1
  fi
  export PATH="$repository/node_modules/.bin:$PATH"
}

# Installs the npm packages of a folder that has some of its own. After bootstrap.
bootstrap_folder() {
  local folder=$repository/$1
  bootstrap_folder_current "$folder" && return
  bootstrap_npm || return 1
  exec 8<"$folder/package-lock.json"
  flock 8
  if ! bootstrap_folder_current "$folder"; then
    bootstrap_step "Installing npm packages of $1 (about 10 seconds)" \
      "check that the npm registry can be reached, then run 'npm install --no-save --prefix $1'" \
      npm install --no-save --prefix "$folder" || return 1
  fi
  exec 8<&-
}

bootstrap_folder_current() {
  [ -f "$1/node_modules/.package-lock.json" ] && node "$repository/hack/lib/packages-current.mjs" "$1"
}
