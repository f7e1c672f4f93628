// Tables, which `kubectl get` asks for: the columns a real server prints for each kind.
import { decode, type Entry } from './codec.ts'
import { arrayAt, isObject, type JsonObject, textAt, valueAt } from './json.ts'
import type { Page } from './list.ts'
import { apiVersionOf, type Resource } from './resources.ts'

interface Column {
  readonly name: string
  /** 1 for columns of `-o wide` only. */
  readonly priority?: number
  readonly cell: (object: JsonObject) => unknown
}

const nameColumn: Column = { name: 'Name', cell: object => textAt(object, 'metadata', 'name') }
const ageColumn: Column = { name: 'Age', cell: object => age(textAt(object, 'metadata', 'creationTimestamp')) }
const orNone = (texts: readonly string[]): string => (texts.length === 0 ? '<none>' : texts.join(','))

const columns: Readonly<Record<string, readonly Column[]>> = {
  Service: [
    nameColumn,
    { name: 'Type', cell: object => textAt(object, 'spec', 'type') },
    { name: 'Cluster-IP', cell: object => textAt(object, 'spec', 'clusterIP') || '<none>' },
    { name: 'External-IP', cell: externalIPs },
    { name: 'Port(s)', cell: object => orNone(arrayAt(object, 'spec', 'ports').filter(isObject).map(servicePort)) },
    ageColumn,
    { name: 'Selector', priority: 1, cell: object => selectorText(valueAt(object, 'spec', 'selector')) },
  ],
  EndpointSlice: [
    nameColumn,
    { name: 'AddressType', cell: object => textAt(object, 'addressType') },
    {
      name: 'Ports',
      cell: object =>
        shortened(
          arrayAt(object, 'ports').map(port => String(valueAt(port, 'port') ?? '*')),
          '<unset>',
        ),
    },
    {
      name: 'Endpoints',
      cell: object =>
        shortened(
          arrayAt(object, 'endpoints').flatMap(e => arrayAt(e, 'addresses').map(String)),
          '<unset>',
        ),
    },
    ageColumn,
  ],
  Node: [
    nameColumn,
    { name: 'Status', cell: nodeStatus },
    { name: 'Age', cell: ageColumn.cell },
    { name: 'Version', cell: object => textAt(object, 'status', 'nodeInfo', 'kubeletVersion') },
    { name: 'Internal-IP', priority: 1, cell: object => internalIP(object) },
  ],
  ServiceCIDR: [nameColumn, { name: 'CIDRs', cell: object => arrayAt(object, 'spec', 'cidrs').join(',') }, ageColumn],
  Namespace: [nameColumn, { name: 'Status', cell: object => textAt(object, 'status', 'phase') }, ageColumn],
  Event: [
    { name: 'Last Seen', cell: object => lastSeen(object) },
    { name: 'Type', cell: object => textAt(object, 'type') },
    { name: 'Reason', cell: object => textAt(object, 'reason') },
    { name: 'Object', cell: eventObject },
    { name: 'Message', cell: object => textAt(object, 'message') || textAt(object, 'note') },
  ],
}

const columnsOf = (resource: Resource): readonly Column[] => columns[resource.kind] ?? [nameColumn, ageColumn]

/** True if the client would rather have a Table. */
export const wantsTable = (accept: string | undefined): boolean => accept?.includes('as=Table') ?? false

/** The Table of a page of a list. `whole` puts objects, not just their metadata, beside the rows. */
export const tableOfPage = (resource: Resource, page: Page, whole: boolean): JsonObject => ({
  kind: 'Table',
  apiVersion: 'meta.k8s.io/v1',
  metadata: {
    resourceVersion: String(page.resourceVersion),
    ...(page.continue === undefined ? {} : { continue: page.continue }),
    ...(page.remaining === undefined ? {} : { remainingItemCount: page.remaining }),
  },
  columnDefinitions: columnsOf(resource).map(({ name, priority }) => ({
    name,
    type: 'string',
    format: name === 'Name' ? 'name' : '',
    description: name,
    priority: priority ?? 0,
  })),
  rows: page.entries.map(entry => row(resource, entry, whole)),
})

/** The Table of one object. */
export const tableOfEntry = (resource: Resource, entry: Entry, whole: boolean): JsonObject =>
  tableOfPage(resource, { resourceVersion: entry.resourceVersion, entries: [entry] }, whole)

function row(resource: Resource, entry: Entry, whole: boolean): JsonObject {
  const object = decode(resource, entry)
  const partial = { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: object.metadata }
  return {
    cells: columnsOf(resource).map(column => column.cell(object)),
    object: whole ? { ...object, apiVersion: apiVersionOf(resource) } : partial,
  }
}

function externalIPs(service: JsonObject): string {
  if (textAt(service, 'spec', 'type') === 'ExternalName') return textAt(service, 'spec', 'externalName')
  const ingress = arrayAt(service, 'status', 'loadBalancer', 'ingress').map(
    i => textAt(i, 'ip') || textAt(i, 'hostname'),
  )
  const all = [...ingress, ...arrayAt(service, 'spec', 'externalIPs').map(String)]
  return all.length === 0 && textAt(service, 'spec', 'type') === 'LoadBalancer' ? '<pending>' : orNone(all)
}

const servicePort = (port: JsonObject): string =>
  `${String(port.port)}${typeof port.nodePort === 'number' ? `:${port.nodePort}` : ''}/${String(port.protocol)}`

const selectorText = (selector: unknown): string =>
  orNone(isObject(selector) ? Object.entries(selector).map(([key, value]) => `${key}=${String(value)}`) : [])

/** The first three, and how many more. */
function shortened(texts: readonly string[], none: string): string {
  if (texts.length === 0) return none
  return texts.length <= 3 ? texts.join(',') : `${texts.slice(0, 3).join(',')} + ${texts.length - 3} more...`
}

function nodeStatus(node: JsonObject): string {
  const ready = arrayAt(node, 'status', 'conditions').find(c => valueAt(c, 'type') === 'Ready')
  const status = ready === undefined ? 'Unknown' : valueAt(ready, 'status') === 'True' ? 'Ready' : 'NotReady'
  return valueAt(node, 'spec', 'unschedulable') === true ? `${status},SchedulingDisabled` : status
}

const internalIP = (node: JsonObject): string =>
  textAt(
    arrayAt(node, 'status', 'addresses').find(a => valueAt(a, 'type') === 'InternalIP'),
    'address',
  ) || '<none>'

function eventObject(event: JsonObject): string {
  const of = isObject(event.involvedObject) ? event.involvedObject : event.regarding
  return `${textAt(of, 'kind').toLowerCase()}/${textAt(of, 'name')}`
}

const lastSeen = (event: JsonObject): string =>
  age(
    textAt(event, 'series', 'lastObservedTime') ||
      textAt(event, 'lastTimestamp') ||
      textAt(event, 'deprecatedLastTimestamp') ||
      textAt(event, 'eventTime') ||
      textAt(event, 'metadata', 'creationTimestamp'),
  )

/** Time since, in its largest unit, as kubectl shows ages. */
function age(timestamp: string): string {
  const seconds = Math.floor((Date.now() - Date.parse(timestamp)) / 1000)
  if (!Number.isFinite(seconds)) return '<unknown>'
  if (seconds < 120) return `${Math.max(0, seconds)}s`
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)}h` : `${Math.floor(seconds / 86_400)}d`
}
