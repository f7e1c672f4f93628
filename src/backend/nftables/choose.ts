// Chains that send a packet to one of many endpoints, or to the one that its source had before.
import { formatAddressPort } from '../../net/ip.ts'
import type { Endpoint, ServicePort } from '../../policy/service-port.ts'
import { endpointPart, groupLetter, mostLetters } from './names.ts'
import type { NftObject, Rule, Statement } from './objects.ts'
import { gotoRule } from './skeleton.ts'

/** Endpoints that stay in one chain; beyond, groups by hash get a chain each, so that a change rewrites one group. */
const mostRules = 32

/** Which of a Service port's sets of endpoints; part of the names of chains for groups. */
export type ChoiceKind = 'service' | 'cluster' | 'external'

/** Rules that choose one of the endpoints. Chains and sets they need are added on the way. */
export type Choose = (endpoints: readonly Endpoint[], kind: ChoiceKind) => readonly Rule[]

/**
 * The chooser of one Service port. With affinity each endpoint has a set of clients and a chain that puts the client
 * there. Where there are many endpoints, a set for each group of them says which group a client's endpoint may be in: a
 * packet is looked up in some 32 sets and not in thousands.
 */
export function chooser(port: ServicePort, id: string, add: (object: NftObject) => void): Choose {
  const seconds = port.affinitySeconds
  if (seconds === undefined) {
    const dnat = (endpoint: Endpoint): Rule => [
      { kind: 'protocol', protocol: port.protocol },
      { kind: 'dnat', address: endpoint.address, port: endpoint.port },
    ]
    return (endpoints, kind) => choices(endpoints, dnat, groupAdder(kind, id, add))
  }

  const added = new Set<string>()
  const clients = (name: string): string => {
    if (!added.has(name)) add({ kind: 'set', name, key: ['address'], timeoutSeconds: seconds })
    added.add(name)
    return name
  }
  // The timeout is part of the names: the kernel cannot change that of a set.
  const groupSet = (letter: string): string => clients(`aff-${seconds}-${letter}/${id}`)
  const endpointSet = ({ address, port: number }: Endpoint): string =>
    clients(`aff-${seconds}/${id}/${endpointPart(address, number)}`)
  const isLarge = [port.internal, port.external, port.externalFromNode].some(
    choice => choice.kind === 'endpoints' && choice.endpoints.length > mostRules,
  )

  const toEndpoint = (endpoint: Endpoint): string => {
    const { address, port: number } = endpoint
    const name = `endpoint/${id}/${endpointPart(address, number)}`
    if (added.has(name)) return name
    added.add(name)
    const sets = [endpointSet(endpoint), ...(isLarge ? [groupSet(letterOf(endpoint, 0))] : [])]
    const rules: Rule[] = [
      ...sets.map((set): Rule => [{ kind: 'remember', set }]),
      [
        { kind: 'protocol', protocol: port.protocol },
        { kind: 'dnat', address, port: number },
      ],
    ]
    add({ kind: 'chain', name, rules })
    return name
  }
  const known = (set: string): Statement => ({ kind: 'in-set', fields: ['saddr'], set })
  const recall = (endpoint: Endpoint): Rule => gotoRule(toEndpoint(endpoint), known(endpointSet(endpoint)))

  return (endpoints, kind) => {
    const picks = choices(endpoints, endpoint => gotoRule(toEndpoint(endpoint)), groupAdder(kind, id, add))
    if (endpoints.length <= mostRules) return [...endpoints.map(recall), ...picks]
    const recalls = grouped(endpoints, 0).map(([letter, group]): Rule => {
      const name = `recall-${kind}-${letter}/${id}`
      add({ kind: 'chain', name, rules: group.map(recall) })
      // A client whose endpoint is gone comes back from there, and is given another.
      return [known(groupSet(letter)), { kind: 'verdict', verdict: { kind: 'jump', chain: name } }]
    })
    return [...recalls, ...picks]
  }
}

type AddGroup = (path: string, rules: readonly Rule[]) => string

const groupAdder =
  (kind: ChoiceKind, id: string, add: (object: NftObject) => void): AddGroup =>
  (path, rules) => {
    const name = `group-${kind}-${path}/${id}`
    add({ kind: 'chain', name, rules })
    return name
  }

/** One rule an endpoint; of many endpoints, one rule a group. Each is taken with its share of what is left. */
function choices(
  endpoints: readonly Endpoint[],
  toEndpoint: (endpoint: Endpoint) => Rule,
  addGroup: AddGroup,
  path = '',
): Rule[] {
  if (endpoints.length <= mostRules || path.length === mostLetters) {
    return endpoints.map((endpoint, i) => [...chance(1, endpoints.length - i), ...toEndpoint(endpoint)])
  }
  let remaining = endpoints.length
  return grouped(endpoints, path.length).map(([letter, group]) => {
    const chain = addGroup(path + letter, choices(group, toEndpoint, addGroup, path + letter))
    const rule = gotoRule(chain, ...chance(group.length, remaining))
    remaining -= group.length
    return rule
  })
}

const chance = (below: number, of: number): Statement[] => (below === of ? [] : [{ kind: 'chance', below, of }])

/** Endpoints by their letter at this depth, in the order of letters. */
function grouped(endpoints: readonly Endpoint[], depth: number): [string, Endpoint[]][] {
  const groups = new Map<string, Endpoint[]>()
  for (const endpoint of endpoints) {
    const letter = letterOf(endpoint, depth)
    const group = groups.get(letter)
    if (group === undefined) groups.set(letter, [endpoint])
    else group.push(endpoint)
  }
  return [...groups].sort(([a], [b]) => (a < b ? -1 : 1))
}

const letterOf = ({ address, port }: Endpoint, depth: number): string =>
  groupLetter(formatAddressPort(address, port), depth)
