// The kinds of object the server knows, and how each is addressed.
import { isObject, type JsonObject, textAt, valueAt } from './json.ts'

export interface Resource {
  /** Empty for the core group. */
  readonly group: string
  readonly version: string
  readonly plural: string
  readonly singular: string
  readonly kind: string
  readonly namespaced: boolean
  readonly shortNames: readonly string[]
  /** True if it has a `status` subresource. */
  readonly status: boolean
  /** True if `metadata.generation` counts changes outside metadata and status. */
  readonly generation: boolean
  /** Where its objects are kept: Events of both groups are the same objects. */
  readonly storage: string
  /** What an object without content has besides metadata, as Go prints it: bookmarks carry that. */
  readonly empty: JsonObject
  /** Fields besides `metadata.name` and `metadata.namespace` that a field selector may name. */
  readonly fields: readonly string[]
}

const involved = ['kind', 'namespace', 'name', 'uid', 'apiVersion', 'resourceVersion', 'fieldPath']

const base = {
  version: 'v1',
  namespaced: true,
  shortNames: [],
  status: false,
  generation: false,
  empty: {},
  fields: [],
}

export const resources: readonly Resource[] = [
  {
    ...base,
    group: '',
    plural: 'services',
    singular: 'service',
    kind: 'Service',
    shortNames: ['svc'],
    status: true,
    generation: true,
    storage: 'services',
    empty: { spec: {}, status: { loadBalancer: {} } },
    fields: ['spec.clusterIP', 'spec.type'],
  },
  {
    ...base,
    group: '',
    plural: 'nodes',
    singular: 'node',
    kind: 'Node',
    namespaced: false,
    shortNames: ['no'],
    status: true,
    storage: 'nodes',
    empty: { spec: {}, status: {} },
    fields: ['spec.unschedulable'],
  },
  {
    ...base,
    group: '',
    plural: 'namespaces',
    singular: 'namespace',
    kind: 'Namespace',
    namespaced: false,
    shortNames: ['ns'],
    storage: 'namespaces',
    empty: { spec: {}, status: {} },
    fields: ['status.phase'],
  },
  {
    ...base,
    group: '',
    plural: 'events',
    singular: 'event',
    kind: 'Event',
    shortNames: ['ev'],
    storage: 'events',
    fields: [...involved.map(field => `involvedObject.${field}`), 'reason', 'reportingComponent', 'source', 'type'],
  },
  {
    ...base,
    group: 'events.k8s.io',
    plural: 'events',
    singular: 'event',
    kind: 'Event',
    shortNames: ['ev'],
    storage: 'events',
    fields: [...involved.map(field => `regarding.${field}`), 'reason', 'reportingController', 'type'],
  },
  {
    ...base,
    group: 'discovery.k8s.io',
    plural: 'endpointslices',
    singular: 'endpointslice',
    kind: 'EndpointSlice',
    generation: true,
    storage: 'endpointslices',
    empty: { addressType: '', endpoints: null, ports: null },
  },
  {
    ...base,
    group: 'networking.k8s.io',
    plural: 'servicecidrs',
    singular: 'servicecidr',
    kind: 'ServiceCIDR',
    namespaced: false,
    status: true,
    generation: true,
    storage: 'servicecidrs',
    empty: { spec: {}, status: {} },
  },
]

/** `v1`, `discovery.k8s.io/v1`. */
export const apiVersionOf = (resource: Resource): string =>
  resource.group === '' ? resource.version : `${resource.group}/${resource.version}`

/** The resource under this group, version and plural; undefined if there is none. */
export const findResource = (group: string, version: string, plural: string): Resource | undefined =>
  resources.find(r => r.group === group && r.version === version && r.plural === plural)

/**
 * The resource of an API object, by its `apiVersion` and `kind`. Throws an Error that names both if the server does not
 * know it.
 */
export function resourceOf(object: JsonObject): Resource {
  const { apiVersion, kind } = object
  const found = resources.find(r => apiVersionOf(r) === apiVersion && r.kind === kind)
  if (found === undefined) throw new Error(`no resource for apiVersion ${String(apiVersion)}, kind ${String(kind)}`)
  return found
}

/** The resource under a plural or kind, as tests name it: `services`, `Service`. Events mean the core group's. */
export function resourceNamed(name: string): Resource {
  const found = resources.find(r => r.plural === name || r.kind === name)
  if (found === undefined) throw new Error(`no resource is called ${name}`)
  return found
}

/** The values a field selector can ask of a stored object, as text. Events answer under the names of both groups. */
export function selectableFields(storage: string, object: JsonObject): Record<string, string> {
  const fields: Record<string, string> = {
    'metadata.name': textAt(object, 'metadata', 'name'),
    'metadata.namespace': textAt(object, 'metadata', 'namespace'),
  }
  switch (storage) {
    case 'services':
      fields['spec.clusterIP'] = textAt(object, 'spec', 'clusterIP')
      fields['spec.type'] = textAt(object, 'spec', 'type')
      break
    case 'nodes':
      fields['spec.unschedulable'] = String(valueAt(object, 'spec', 'unschedulable') === true)
      break
    case 'namespaces':
      fields['status.phase'] = textAt(object, 'status', 'phase')
      break
    case 'events':
      for (const field of involved) {
        const value = textAt(object, 'involvedObject', field)
        fields[`involvedObject.${field}`] = value
        fields[`regarding.${field}`] = value
      }
      fields.reason = textAt(object, 'reason')
      fields.type = textAt(object, 'type')
      fields.source = textAt(object, 'source', 'component')
      fields.reportingComponent = textAt(object, 'reportingComponent')
      fields.reportingController = fields.reportingComponent
      break
  }
  return fields
}

/** The labels of an object; entries that are not text are left out. */
export function labelsOf(object: JsonObject): Record<string, string> {
  const labels: Record<string, string> = {}
  const found = valueAt(object, 'metadata', 'labels')
  if (isObject(found))
    for (const [key, value] of Object.entries(found)) if (typeof value === 'string') labels[key] = value
  return labels
}
