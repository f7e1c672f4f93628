// What the server says of itself: groups, resources, version, and as much OpenAPI as kubectl needs to validate on the server.
import type { JsonObject } from './json.ts'
import { apiVersionOf, type Resource, resources } from './resources.ts'

const verbs = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch']

const groups = [...new Set(resources.map(r => r.group))]

const groupVersion = (group: string): JsonObject => ({ groupVersion: `${group}/v1`, version: 'v1' })

const groupDocument = (group: string): JsonObject => ({
  name: group,
  versions: [groupVersion(group)],
  preferredVersion: groupVersion(group),
})

/** The answer under a discovery path, or undefined if it is none. `address` is the server's `host:port`. */
export function discover(path: string, address: string): JsonObject | undefined {
  const parts = path.split('/').filter(part => part !== '')
  if (path === '/version') return version
  if (path === '/openapi/v3') return openapiRoot()
  if (parts[0] === 'openapi' && parts[1] === 'v3') return openapiOf(parts.slice(2))
  if (path === '/api') {
    return {
      kind: 'APIVersions',
      versions: ['v1'],
      serverAddressByClientCIDRs: [{ clientCIDR: '0.0.0.0/0', serverAddress: address }],
    }
  }
  if (path === '/apis') {
    return { kind: 'APIGroupList', apiVersion: 'v1', groups: groups.filter(g => g !== '').map(groupDocument) }
  }
  if (path === '/api/v1') return resourceList('')
  const [root, group, versionName] = parts
  if (root !== 'apis' || group === undefined || !groups.includes(group)) return undefined
  if (parts.length === 2) return { kind: 'APIGroup', apiVersion: 'v1', ...groupDocument(group) }
  return parts.length === 3 && versionName === 'v1' ? resourceList(group) : undefined
}

function resourceList(group: string): JsonObject {
  const own = resources.filter(r => r.group === group)
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: group === '' ? 'v1' : `${group}/v1`,
    resources: own.flatMap(resource => [
      {
        name: resource.plural,
        singularName: resource.singular,
        namespaced: resource.namespaced,
        kind: resource.kind,
        verbs,
        ...(resource.shortNames.length === 0 ? {} : { shortNames: resource.shortNames }),
      },
      ...(resource.status
        ? [
            {
              name: `${resource.plural}/status`,
              singularName: '',
              namespaced: resource.namespaced,
              kind: resource.kind,
              verbs: ['get', 'patch', 'update'],
            },
          ]
        : []),
    ]),
  }
}

const openapiPath = (group: string): string => (group === '' ? 'api/v1' : `apis/${group}/v1`)

const openapiRoot = (): JsonObject => ({
  paths: Object.fromEntries(groups.map(g => [openapiPath(g), { serverRelativeURL: `/openapi/v3/${openapiPath(g)}` }])),
})

/**
 * kubectl asks whether PATCH of a kind knows `fieldValidation`; if it does, kubectl leaves validation to the server
 * (KEP-2885) and needs no schemas.
 */
function openapiOf(parts: readonly string[]): JsonObject | undefined {
  const path = parts.join('/')
  const group = groups.find(g => openapiPath(g) === path)
  if (group === undefined) return undefined
  const own = resources.filter(r => r.group === group)
  return {
    openapi: '3.0.0',
    info: { title: 'Kubernetes', version: version.gitVersion },
    paths: Object.fromEntries(own.map(resource => [itemPath(resource), { patch: patchOperation(resource) }])),
  }
}

const itemPath = (resource: Resource): string =>
  `/${openapiPath(resource.group)}/${resource.namespaced ? 'namespaces/{namespace}/' : ''}${resource.plural}/{name}`

const patchOperation = (resource: Resource): JsonObject => ({
  parameters: ['dryRun', 'fieldManager', 'fieldValidation', 'force'].map(name => ({
    name,
    in: 'query',
    schema: { type: 'string', uniqueItems: true },
  })),
  responses: { 200: { description: `OK: ${apiVersionOf(resource)} ${resource.kind}` } },
  'x-kubernetes-group-version-kind': { group: resource.group, version: resource.version, kind: resource.kind },
})

/** The release whose behaviour is imitated. */
const version = {
  major: '1',
  minor: '36',
  gitVersion: 'v1.36.0',
  gitCommit: '0000000000000000000000000000000000000000',
  gitTreeState: 'clean',
  buildDate: '2026-04-01T00:00:00Z',
  goVersion: 'go1.26',
  compiler: 'gc',
  platform: `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`,
}
