// What this program says in Kubernetes events, and of which object: kube-proxy's, under its reasons and actions
// (`kube-proxy.md` §11.4), and those that kube-proxy leaves to its log.

/** Who an event is about. */
export interface Regarding {
  readonly apiVersion: 'v1'
  readonly kind: 'Node' | 'Service'
  readonly name: string
  /** Absent for a Node. */
  readonly namespace?: string
  /** `kubectl describe service` shows only events that carry it. */
  readonly uid?: string
}

/** What is to be said. */
export interface EventInput {
  readonly regarding: Regarding
  readonly type: 'Normal' | 'Warning'
  /** One word, for programs. */
  readonly reason: string
  /** What was being done. */
  readonly action: string
  /** What happened and what to do, for people; at most 1,024 bytes reach the API. */
  readonly note: string
}

/** A Service as far as an event needs to know it. A `ServiceRecord` has this shape. */
export interface ServiceIdentity {
  readonly namespace: string
  readonly name: string
  readonly uid?: string
}

const startAction = 'StartKubeProxy'

/** By name and without UID, as kube-proxy's; `kubectl describe node` finds those. */
const ofNode = (name: string): Regarding => ({ apiVersion: 'v1', kind: 'Node', name })

const ofService = ({ namespace, name, uid }: ServiceIdentity): Regarding => ({
  apiVersion: 'v1',
  kind: 'Service',
  namespace,
  name,
  ...(uid === undefined || uid === '' ? {} : { uid }),
})

const warning = (regarding: Regarding, reason: string, action: string, note: string): EventInput => ({
  regarding,
  type: 'Warning',
  reason,
  action,
  note,
})

/** The program runs; kube-proxy's event of a start has no text. */
export const started = (node: string, version: string, mode: string): EventInput => ({
  regarding: ofNode(node),
  type: 'Normal',
  reason: 'Starting',
  action: startAction,
  note: `kube-penstock ${version} is in charge of Services on this node, mode ${mode}`,
})

/** The health server cannot listen; kube-proxy says so only before it exits, this program tries on. */
export const healthServerFailed = (node: string, error: string): EventInput =>
  warning(ofNode(node), 'FailedToStartProxierHealthcheck', startAction, `the health server cannot listen: ${error}`)

/** The metrics server cannot listen. */
export const metricsServerFailed = (node: string, error: string): EventInput =>
  warning(ofNode(node), 'FailedToStartMetricServer', startAction, `the metrics server cannot listen: ${error}`)

/** A Service's healthCheckNodePort cannot be served on this node. */
export const serviceHealthFailed = (service: ServiceIdentity, node: string, port: number, error: string): EventInput =>
  warning(
    ofService(service),
    'FailedToStartServiceHealthcheck',
    'Listen',
    `node ${node} cannot serve the health check of this Service on port ${port}: ${error}`,
  )

/** The kernel refuses what a Service port needs, or it cannot be compiled. */
export const notProgrammed = (service: ServiceIdentity, node: string, servicePort: string, why: string): EventInput =>
  warning(
    ofService(service),
    'NotProgrammed',
    'Sync',
    `node ${node} cannot program ${servicePort}, which keeps its former rules there, or none: ${why}`,
  )

/** Somebody changed rules of ours. `missing`: what was found, in words. */
export const drift = (node: string, family: string, missing: string): EventInput =>
  warning(
    ofNode(node),
    'Drift',
    'Repair',
    `somebody changed the ${family} rules of Services, and they were put back: ${missing}`,
  )

/** Syncs of a family fail and go on failing. */
export const syncFailing = (node: string, family: string, why: string): EventInput =>
  warning(ofNode(node), 'SyncFailing', 'Sync', `the ${family} rules of Services cannot be written: ${why}`)

/** The kernel cannot do something that can be done without. */
export const degraded = (node: string, family: string, lost: string): EventInput =>
  warning(ofNode(node), 'Degraded', 'Sync', `${family}: ${lost}`)
