# What the scripts in this folder share: which Node, which packages, and saying what one waits for. Sourced, not run.
# Everything here speaks on stderr: stdout belongs to the program that was asked for.

say() { printf '%s\n' "$*" >&2; }

die() {
  say "$*"
  exit 1
}

# Runs a command whose output matters only if it fails, and says every ten seconds that it is still at work.
# Usage: patiently 'what it is doing' command...
patiently() {
  local what=$1 log status=0 began=$SECONDS pid ticks=0
  shift
  log=$(mktemp)
  say "$what …"
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  # A command in the background does not hear Ctrl-C by itself.
  trap 'kill "$pid" 2>/dev/null; rm -f "$log"; exit 130' INT TERM
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    ticks=$((ticks + 1))
    [ $((ticks % 50)) -ne 0 ] || say "  still $what, $((SECONDS - began)) s"
  done
  wait "$pid" || status=$?
  trap - INT TERM
  [ "$status" -eq 0 ] || cat "$log" >&2
  rm -f "$log"
  return "$status"
}

# True if the Node given is 24 or newer.
node_is_new_enough() {
  local version
  version=$("$1" --version 2>/dev/null) || return 1
  version=${version#v}
  [ "${version%%.*}" -ge 24 ] 2>/dev/null
}

# Sets $node to a Node that can run the project: the one npm installed beside it, else one of the machine.
find_node() {
  local arch
  case $(uname -m) in
    aarch64 | arm64) arch=arm64 ;;
    *) arch=x64 ;;
  esac
  for node in "$root/node_modules/node-linux-$arch/bin/node" "$(command -v node || true)"; do
    if [ -n "$node" ] && [ -x "$node" ] && node_is_new_enough "$node"; then return 0; fi
  done
  die "No Node of version 24 or newer was found; install one, or run 'npm ci' in $root on x64 or arm64 Linux, which brings it."
}

# Installs the npm packages if they are missing or if package-lock.json changed since they were installed.
ensure_npm_packages() {
  local lock=$root/package-lock.json installed=$root/node_modules/.package-lock.json stamp=$root/node_modules/.installed-from
  if [ -f "$stamp" ] && cmp -s "$lock" "$stamp"; then return 0; fi
  if [ ! -f "$stamp" ] && [ -f "$installed" ] && [ "$installed" -nt "$lock" ]; then
    cp "$lock" "$stamp" 2>/dev/null || true
    return 0
  fi
  command -v npm >/dev/null || die "npm is missing; install it (on Debian: apt-get install npm) and run this again."
  # The machine's own Node may be older than the one the packages ask for: that is a warning of npm, not a failure.
  (cd "$root" && patiently 'installing npm packages (about half a minute)' npm ci --ignore-scripts --no-audit --no-fund) ||
    die "npm ci failed in $root; what it said is above."
  cp "$lock" "$stamp"
}

# The Debian packages whose programs are missing, as "program:package" pairs tell.
missing_packages() {
  local pair missing=''
  for pair in iptables:iptables nft:nftables ipset:ipset ipvsadm:ipvsadm conntrack:conntrack ip:iproute2 sysctl:procps \
    unshare:util-linux nsenter:util-linux mount:mount; do
    PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
  done
  printf '%s\n' $missing | sort -u | tr '\n' ' ' | sed 's/ *$//'
}

# Installs the Debian packages that are missing. Status 1, and one sentence, where that cannot be done here.
ensure_debian_packages() {
  local missing
  missing=$(missing_packages)
  [ -n "$missing" ] || return 0
  if ! command -v apt-get >/dev/null; then
    say "These programs are missing here: install the equivalents of Debian's packages $missing."
    return 1
  fi
  if [ "$(id -u)" -ne 0 ]; then
    say "Debian packages are missing and only root can install them: sudo apt-get install $missing"
    return 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  # Package lists of a fresh image are often absent or old; without fresh ones the install finds nothing.
  patiently 'reading the Debian package lists' apt-get update -q || return 1
  # shellcheck disable=SC2086
  patiently "installing Debian packages: $missing" apt-get install -q -y --no-install-recommends $missing || return 1
}

# Builds dist/penstock.js if a source is newer than it.
ensure_built() {
  local built=$root/dist/penstock.js
  if [ -f "$built" ] &&
    [ -z "$(find "$root/src" "$root/hack/build.mjs" "$root/package.json" "$root/package-lock.json" -newer "$built" -print -quit)" ]; then
    return 0
  fi
  "$node" "$root/hack/build.mjs" >&2 || die "the program could not be built; what is wrong with it is above."
}

# Sets $prometheus to the folder with the programs prometheus and promtool. Debian's package is unpacked, not installed:
# installed, it starts a server. Status 1, and one sentence, where it cannot be had.
ensure_prometheus() {
  local cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/kube-penstock fresh
  if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
    prometheus=$(dirname "$(command -v prometheus)")
    return 0
  fi
  prometheus=$cache/prometheus/usr/bin
  if [ -x "$prometheus/prometheus" ] && [ -x "$prometheus/promtool" ]; then return 0; fi
  if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    say 'The programs prometheus and promtool are missing; install them, so that they are on the search path.'
    return 1
  fi
  mkdir -p "$cache" && fresh=$(mktemp -d "$cache/.prometheus.XXXXXX") || return 1
  if patiently "downloading and unpacking Debian's prometheus (20 MB)" unpack_prometheus "$fresh"; then
    # Another run may have been faster.
    mv -T "$fresh/unpacked" "$cache/prometheus" 2>/dev/null || true
  fi
  rm -rf "$fresh"
  [ -x "$prometheus/prometheus" ] && [ -x "$prometheus/promtool" ]
}

# Usage: unpack_prometheus DIRECTORY, an empty one; leaves the package's files in DIRECTORY/unpacked.
unpack_prometheus() {
  cd "$1" || return 1
  # Package lists of a fresh image are often absent or old.
  apt-get download -q prometheus || { [ "$(id -u)" -eq 0 ] && apt-get update -q && apt-get download -q prometheus; } || return 1
  dpkg-deb -x prometheus_*.deb unpacked
}
