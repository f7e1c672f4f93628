// Which endpoints are near enough: node and zone hints, as the EndpointSlice controller wrote them (KEP-2433, KEP-3015).
import type { NodeView } from './node-view.ts'

/** What topology looks at in a ready endpoint. */
export interface Hinted {
  readonly zoneHints?: readonly string[]
  readonly nodeHints?: readonly string[]
}

/** How the ready endpoints are narrowed down. */
export type TopologyMode = 'same-node' | 'same-zone' | 'none'

const holds = (hints: readonly string[] | undefined, name: string | undefined): boolean =>
  name !== undefined && name !== '' && (hints?.includes(name) ?? false)

const isEmpty = (hints: readonly string[] | undefined): boolean => hints === undefined || hints.length === 0

/**
 * The mode for a set of ready endpoints (`kube-proxy.md` §2.1): hints count only if every ready endpoint has one of
 * that kind and one of them is for this node or zone, so that the mode never leaves a Service without endpoints. Node
 * hints that do not apply fall through to zone hints.
 */
export function topologyMode(ready: readonly Hinted[], node: NodeView): TopologyMode {
  let allNode = true
  let allZone = true
  let thisNode = false
  let thisZone = false
  for (const { nodeHints, zoneHints } of ready) {
    if (isEmpty(nodeHints)) allNode = false
    else if (!thisNode) thisNode = holds(nodeHints, node.name)
    if (isEmpty(zoneHints)) allZone = false
    else if (!thisZone) thisZone = holds(zoneHints, node.zone)
    if (!allNode && !allZone) return 'none'
  }
  if (allNode && thisNode) return 'same-node'
  return allZone && thisZone ? 'same-zone' : 'none'
}

/** True if a ready endpoint may be used in this mode. */
export function isNear(endpoint: Hinted, mode: TopologyMode, node: NodeView): boolean {
  switch (mode) {
    case 'same-node':
      return holds(endpoint.nodeHints, node.name)
    case 'same-zone':
      return holds(endpoint.zoneHints, node.zone)
    case 'none':
      return true
  }
}
