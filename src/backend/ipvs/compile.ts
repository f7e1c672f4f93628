// From a Service port to virtual servers, set members and addresses.
import { cidrContains, type IP, parseCIDR } from '../../net/ip.ts'
import type { Network } from '../../policy/network.ts'
import { nodePortIPs } from '../../policy/node-ports.ts'
import type { Endpoint, EndpointChoice, Frontend, ServicePort } from '../../policy/service-port.ts'
import type { KernelObject } from '../backend.ts'
import { addressEntry, bundleEntry, poolEntry } from './layout.ts'
import { memberKey, type SetRole, serverKey, setName, virtualServer } from './names.ts'
import { optionsOf, parseScheduling, poolOptionsOf, realServers, type Scheduling, serverValue } from './servers.ts'
import { commentOf, frontendElement, rangeElement } from './sets.ts'

/** What is no single machine's address, or each one's own, is not made this one's (RFC 6890, RFC 1112, RFC 4291). */
const special = [
  '0.0.0.0/8',
  '127.0.0.0/8',
  '224.0.0.0/4',
  '255.255.255.255/32',
  '::/128',
  '::1/128',
  'fe80::/10',
  'ff00::/8',
]
  .map(parseCIDR)
  .filter(cidr => cidr !== undefined)
const isSingle = (address: IP): boolean => !special.some(cidr => cidrContains(cidr, address))

/** A frontend at one address. */
type Placed = Frontend & { readonly address: IP }

/**
 * What one Service port needs in the kernel. Objects of different Service ports never share a key; what several of them
 * need, or may compete for, are entries of the layout.
 * @throws Error naming the annotation when the Service asks for a scheduler that cannot be read.
 */
export function* compileServicePort(
  port: ServicePort,
  network: Network,
  clusterDefault: Scheduling,
): Iterable<KernelObject> {
  const { family } = network
  const owner = `${port.name}/${port.protocol}`
  const scheduling = schedulingOf(port, clusterDefault)
  const options = optionsOf(scheduling, port.affinitySeconds)
  const member = (role: SetRole, element: string, value = ''): KernelObject => ({
    key: memberKey(setName(family, role), element),
    value,
  })
  const elementAt = ({ address, port: number }: Placed) => frontendElement(address, port.protocol, number)

  const isOfNode = (address: IP) => network.nodeAddresses.includes(address)

  const forNode: Placed[] = []
  for (const frontend of port.frontends.flatMap(given => placed(given, network))) {
    const { address, traffic, sourceRanges } = frontend
    const element = elementAt(frontend)
    const choice = traffic === 'internal' ? port.internal : port.external
    const objects: KernelObject[] = [
      {
        key: serverKey(virtualServer(port.protocol, address, frontend.port)),
        value: serverValue({ options, real: realServers(endpointsOf(choice)) }),
      },
      member(roleFor(frontend, port), element, commentOf(port.name)),
    ]
    if (choice.kind === 'drop') objects.push(member('DROP', element))
    // Without endpoints anywhere, everybody is rejected.
    if (sourceRanges !== undefined && choice.kind !== 'reject') {
      objects.push(member('RANGED', element))
      for (const range of sourceRanges) objects.push(member('RANGES', rangeElement(element, range, family)))
    }
    if (isOfNode(address)) {
      // Here a node port may meet an external IP: the address goes before the node port.
      const rank = frontend.kind === 'NodePort' ? 1 : 0
      yield bundleEntry(virtualServer(port.protocol, address, frontend.port), rank, owner, objects)
    } else {
      yield* objects
      if (isSingle(address)) yield addressEntry(address, owner)
    }
    if (traffic === 'external') forNode.push(frontend)
  }

  // Even where all meet the same endpoints now: connections live in it that must outlast that.
  if (forNode.length > 0 && !port.externalMasquerade) {
    yield poolEntry(owner, {
      family,
      protocol: port.protocol,
      state: {
        options: poolOptionsOf(scheduling, port.affinitySeconds),
        real: realServers(endpointsOf(port.externalFromNode)),
      },
      elements: forNode.filter(({ address }) => !isOfNode(address)).map(elementAt),
      contested: Object.fromEntries(
        forNode
          .filter(({ address }) => isOfNode(address))
          .map(frontend => [virtualServer(port.protocol, frontend.address, frontend.port), elementAt(frontend)]),
      ),
    })
  }
  if (port.healthCheckNodePort !== 0) yield member('HEALTH', String(port.healthCheckNodePort))
}

function schedulingOf(port: ServicePort, clusterDefault: Scheduling): Scheduling {
  if (port.scheduler === undefined) return clusterDefault
  const asked = parseScheduling(port.scheduler)
  if (asked !== undefined) return asked
  throw new Error(`its scheduler annotation says "${port.scheduler}": not a scheduler with flags, as in "sh,sh-port"`)
}

/** A frontend at each of its addresses: a node port is at every address of the node that takes node ports. */
function placed(frontend: Frontend, network: Network): Placed[] {
  const { address } = frontend
  if (address !== 'node-ports') return [{ ...frontend, address }]
  return nodePortIPs(network).map(ip => ({ ...frontend, address: ip }))
}

function roleFor({ traffic }: Frontend, port: ServicePort): SetRole {
  if (traffic === 'internal') return 'INTERNAL'
  return port.externalMasquerade ? 'EXTERNAL' : 'LOCAL'
}

const endpointsOf = (choice: EndpointChoice): readonly Endpoint[] =>
  choice.kind === 'endpoints' ? choice.endpoints : []
