// Checks of the kernel's settings and of its connection tracking.
import { type Finding, ok, unknown } from './finding.ts'
import { type Look, numberIn, sysctl } from './look.ts'

/** Without forwarding no packet reaches a pod. kube-proxy does not set it either (`kube-proxy.md` §11.6). */
export async function forwarding(look: Look): Promise<Finding[]> {
  const found: Finding[] = []
  for (const family of look.wanted.families) {
    const name = family === 'IPv4' ? 'net.ipv4.ip_forward' : 'net.ipv6.conf.all.forwarding'
    const id = family === 'IPv4' ? 'ip-forward' : 'ip6-forward'
    const value = await sysctl(look, name)
    if (value === undefined) found.push(unknown(id, `${name} cannot be read`))
    else if (value !== 0) found.push(ok(id, `${name} is on`))
    else
      found.push({
        id,
        severity: family === 'IPv4' ? 'problem' : 'warning',
        title: `${name} is off`,
        meaning: `the kernel drops ${family} packets to and from pods, whatever the rules say`,
        mend: `sysctl -w ${name}=1`,
      })
  }
  return found
}

/** Strict reverse path filtering drops what comes in by another way than the answer goes out (#101910, #124587). */
export async function reversePath(look: Look): Promise<Finding[]> {
  const id = 'rp-filter'
  const all = await sysctl(look, 'net.ipv4.conf.all.rp_filter')
  const devices = await look.names('/proc/sys/net/ipv4/conf')
  if (all === undefined || devices === undefined) return [unknown(id, 'net.ipv4.conf.*.rp_filter cannot be read')]
  const strict: string[] = []
  for (const device of devices) {
    if (device === 'all' || device === 'lo') continue
    // The kernel takes the greater of the two; 2 is loose.
    const own = (await numberIn(look, `/proc/sys/net/ipv4/conf/${device}/rp_filter`)) ?? 0
    if (Math.max(all, own) === 1) strict.push(device)
  }
  if (strict.length === 0) return [ok(id, 'no device filters strictly by reverse path')]
  const some = strict.length > 6 ? `${strict.slice(0, 6).join(', ')} and ${strict.length - 6} more` : strict.join(', ')
  return [
    {
      id,
      severity: 'warning',
      title: `strict reverse path filtering on ${some}`,
      meaning:
        'a packet is dropped in silence where its answer would leave by another device: nodes with several devices, asymmetric routes, load balancers that answer for themselves',
      mend: 'sysctl -w net.ipv4.conf.all.rp_filter=2',
    },
  ]
}

/** Node ports on 127.0.0.1 need it (`kube-proxy.md` §3.4). */
export async function routeLocalnet(look: Look): Promise<Finding[]> {
  const id = 'route-localnet'
  const name = 'net.ipv4.conf.all.route_localnet'
  const value = await sysctl(look, name)
  if (value === undefined) return [unknown(id, `${name} cannot be read`)]
  const { mode, localhostNodePorts } = look.wanted
  const isWanted = mode === 'iptables' && localhostNodePorts
  if (isWanted && value === 0) {
    return [
      {
        id,
        severity: 'warning',
        title: `${name} is off, and iptables.localhostNodePorts is on`,
        meaning:
          'node ports do not answer on 127.0.0.1; the daemon sets it after its first sync, unless /proc/sys is read-only',
        mend: `sysctl -w ${name}=1`,
      },
    ]
  }
  if (!isWanted && value !== 0) {
    return [
      {
        id,
        severity: 'warning',
        title: `${name} is on, and nothing here needs it`,
        meaning:
          'neighbours on the same network may reach what listens on 127.0.0.1, unless a rule keeps them out (CVE-2020-8558); kube-proxy in mode iptables leaves it on',
        mend: `sysctl -w ${name}=0`,
      },
    ]
  }
  return [ok(id, isWanted ? `${name} is on, as node ports on 127.0.0.1 need` : `${name} is off`)]
}

/** Packets between ports of a bridge pass the rules only with br_netfilter. */
export async function bridge(look: Look): Promise<Finding[]> {
  const id = 'bridge-netfilter'
  const bridges: string[] = []
  for (const device of (await look.names('/sys/class/net')) ?? []) {
    if ((await look.names(`/sys/class/net/${device}/bridge`)) !== undefined) bridges.push(device)
  }
  if (bridges.length === 0 && !look.wanted.usesBridge) return [ok(id, 'there is no Linux bridge')]
  const name = 'net.bridge.bridge-nf-call-iptables'
  const value = await sysctl(look, name)
  if (value === 1) return [ok(id, `${name} is on`)]
  return [
    {
      id,
      severity: look.wanted.usesBridge ? 'problem' : 'warning',
      title: value === 0 ? `${name} is off` : 'the module br_netfilter is not loaded',
      meaning: `there is a Linux bridge (${bridges.join(', ') || 'detectLocalMode BridgeInterface'}): a pod that reaches a pod on the same bridge through a Service gets its answer past the rules, and drops it`,
      mend: value === 0 ? `sysctl -w ${name}=1` : `modprobe br_netfilter && sysctl -w ${name}=1`,
    },
  ]
}

const firstNodePort = 30_000
const lastNodePort = 32_767

/** Nobody reserves node ports: a connection that leaves from one takes it away from the Service (#100643, #111682). */
export async function portRange(look: Look): Promise<Finding[]> {
  const id = 'port-range'
  const file = await look.file('/proc/sys/net/ipv4/ip_local_port_range')
  const [first, last] = file.kind === 'text' ? file.text.trim().split(/\s+/).map(Number) : []
  if (first === undefined || last === undefined) return [unknown(id, 'net.ipv4.ip_local_port_range cannot be read')]
  const reserved = await look.file('/proc/sys/net/ipv4/ip_local_reserved_ports')
  const ranges = (reserved.kind === 'text' ? reserved.text.trim() : '').split(',').filter(item => item !== '')
  const isReserved = ranges.some(item => {
    const [from = 0, to = from] = item.split('-').map(Number)
    return from <= Math.max(first, firstNodePort) && to >= Math.min(last, lastNodePort)
  })
  if (first > lastNodePort || last < firstNodePort || isReserved) {
    return [ok(id, 'node ports are not used for outgoing connections')]
  }
  return [
    {
      id,
      severity: 'warning',
      title: `outgoing connections use ports ${first} to ${last}, and node ports are ${firstNodePort} to ${lastNodePort}`,
      meaning: 'a connection of the node that happens to leave from the port of a NodePort Service meets its rules',
      mend: `sysctl -w net.ipv4.ip_local_reserved_ports=${[...ranges, `${firstNodePort}-${lastNodePort}`].join(',')}`,
    },
  ]
}

/** A full table drops new connections (#18604). */
export async function conntrackFill(look: Look): Promise<Finding[]> {
  const id = 'conntrack-fill'
  const count = await sysctl(look, 'net.netfilter.nf_conntrack_count')
  const max = await sysctl(look, 'net.netfilter.nf_conntrack_max')
  if (count === undefined || max === undefined) {
    return [unknown(id, 'connection tracking is not loaded yet, or cannot be read: net.netfilter.nf_conntrack_count')]
  }
  const percent = max === 0 ? 0 : Math.round((count / max) * 100)
  const title = `${count} of ${max} connections tracked (${percent} %)`
  if (percent < 75) return [ok(id, title)]
  return [
    {
      id,
      severity: percent >= 95 ? 'problem' : 'warning',
      title,
      meaning: 'when the table is full, new connections are dropped, on the whole node',
      mend: `sysctl -w net.netfilter.nf_conntrack_max=${max * 2}   # and conntrack.maxPerCore in the configuration, which sets it again`,
    },
  ]
}

/** Counters since the node started, as its own name and number. */
async function conntrackCounters(look: Look): Promise<ReadonlyMap<string, number> | undefined> {
  const file = await look.file('/proc/net/stat/nf_conntrack')
  const sums = new Map<string, number>()
  const add = (name: string, value: number): unknown => sums.set(name, (sums.get(name) ?? 0) + value)
  if (file.kind === 'text') {
    const [head = '', ...rows] = file.text.trim().split('\n')
    const names = head.trim().split(/\s+/)
    for (const row of rows) {
      for (const [i, hex] of row.trim().split(/\s+/).entries()) add(names[i] ?? '', Number.parseInt(hex, 16))
    }
    return sums
  }
  const asked = await look.exec.run('conntrack', ['-S'], { timeoutMs: 5_000 })
  if (asked.exitCode !== 0) return undefined
  for (const [, name = '', value] of asked.stdout.matchAll(/\b([a-z_]+)=(\d+)/g)) add(name, Number(value))
  return sums
}

/** Above this many the races of #56903 are worth a line; a few happen on every node. */
const manyFailures = 100

export async function conntrackDrops(look: Look): Promise<Finding[]> {
  const id = 'conntrack-drops'
  const counters = await conntrackCounters(look)
  if (counters === undefined) {
    return [
      unknown(
        id,
        'counters of connection tracking cannot be read: neither /proc/net/stat/nf_conntrack nor `conntrack -S` as this user',
      ),
    ]
  }
  const dropped = (counters.get('drop') ?? 0) + (counters.get('early_drop') ?? 0)
  const failed = counters.get('insert_failed') ?? 0
  if (dropped === 0 && failed <= manyFailures) {
    return [ok(id, `connection tracking has dropped nothing since the node started (${failed} failed insertions)`)]
  }
  const parts = [
    ...(dropped > 0 ? [`dropped ${dropped} connections for want of room`] : []),
    ...(failed > manyFailures ? [`failed to insert ${failed}`] : []),
  ]
  return [
    {
      id,
      severity: 'warning',
      title: `connection tracking has ${parts.join(' and ')} since the node started`,
      meaning:
        dropped > 0
          ? 'the table was full at some time: look whether the count still grows'
          : 'two packets of one flow at once, as from a resolver that asks for A and AAAA: the second is lost and its answer comes 5 s late (#56903)',
      mend:
        dropped > 0
          ? 'conntrack -S'
          : 'conntrack -S   # for DNS: NodeLocal DNSCache, or "options single-request-reopen" in resolv.conf',
    },
  ]
}
