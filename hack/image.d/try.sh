# What must hold of the image, tried in it: sourced by hack/image. Its root file system is at $mounted, and read-only as in
# the cluster; the network is a namespace of its own.

enter=(unshare --mount --pid --fork -- "$root/hack/image.d/enter" "$mounted" "$work/given")
mkdir -p "$work/given"
cat >"$work/given/shop.yaml" <<'END'
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec: { clusterIP: 10.96.0.20, clusterIPs: [10.96.0.20], ports: [{ name: http, port: 80, protocol: TCP }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: web-1, namespace: shop, labels: { kubernetes.io/service-name: web } }
addressType: IPv4
ports: [{ name: http, port: 8080, protocol: TCP }]
endpoints: [{ addresses: [10.244.1.10], conditions: { ready: true } }]
END
objects=(--manifests /given/shop.yaml --hostname-override node-a --cluster-cidr 10.244.0.0/16)

# Written in one namespace: the second command sees what the first one wrote.
writes_and_plans() { inside sh -c 'penstock run --once "$@" && penstock plan "$@"' sh "$@" "${objects[@]}"; }

starts_and_stops() {
  inside sh -c '
    kube-proxy "$@" >/tmp/log 2>&1 & pid=$!
    for _ in $(seq 100); do grep -q synced /tmp/log && break; sleep 0.1; done
    grep -q synced /tmp/log || { cat /tmp/log; exit 1; }
    tr "\0" " " <"/proc/$pid/cmdline" | grep -q "^/usr/local/bin/node " || { echo "the process is not Node itself"; exit 1; }
    kill -TERM "$pid"; wait "$pid"' sh "${objects[@]}"
}

version=$(sed -n 's/.*"version": "\(.*\)".*/\1/p' "$root/package.json" | head -n 1)
check 'penstock --version' says "$version" inside penstock --version
check '/usr/local/bin/kube-proxy is the same program' says "$version" inside /usr/local/bin/kube-proxy --version
check 'penstock compile --manifests' says '10\.244\.1\.10:8080' inside penstock compile "${objects[@]}"
check 'koffi is found beside the program, and works' says '^[1-9][0-9]*$' inside node -e '
  const koffi = require("module").createRequire("/usr/local/lib/penstock/penstock.js")("koffi")
  console.log(koffi.load("libc.so.6").func("int getpid()")())'
for program in iptables-legacy iptables-nft ip6tables-legacy ip6tables-nft nft ipset conntrack modprobe; do
  check "$program" inside "$program" --version
done
check ipvsadm inside sh -c 'command -v ipvsadm'
check ip inside ip -V
for mode in iptables nftables; do
  check "mode $mode: rules are written, and a plan afterwards finds nothing to do" writes_and_plans --proxy-mode "$mode"
done
check 'as kube-proxy: starts, is one process, stops on SIGTERM with status 0' starts_and_stops
if inside penstock help doctor >/dev/null 2>&1; then
  # Status 1 is a finding about this machine, not about the image.
  check 'penstock doctor' says '"findings"' inside sh -c 'penstock doctor -o json; test $? -le 1'
fi
