// Writes over HTTP: create, update, patch, status, delete; what the server fills in and what it refuses.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { isObject, type JsonObject, valueAt } from '../support/apiserver/json.ts'
import { type ApiServer, startApiServer } from '../support/apiserver/server.ts'
import { call, openWatch, service, services, summary } from './client.ts'

let server: ApiServer
beforeEach(async () => {
  server = await startApiServer()
})
afterEach(() => server.stop())

async function ok(method: string, path: string, body?: unknown, type?: string): Promise<JsonObject> {
  const answer = await call(server, path, {
    method,
    ...(body === undefined ? {} : { body }),
    ...(type === undefined ? {} : { type }),
  })
  expect(answer.body).toBeTypeOf('object')
  expect([200, 201], JSON.stringify(answer.body)).toContain(answer.status)
  if (!isObject(answer.body)) throw new Error('no object')
  return answer.body
}

const statusOf = async (method: string, path: string, body?: unknown, type?: string): Promise<number> =>
  (
    await call(server, path, {
      method,
      ...(body === undefined ? {} : { body }),
      ...(type === undefined ? {} : { type }),
    })
  ).status

const merge = 'application/merge-patch+json'
const create = (spec: JsonObject, name = 'web') => ok('POST', services, { ...service(name), spec })

describe('a create', () => {
  test('fills in metadata and the defaults of a Service', async () => {
    expect(await create({ ports: [{ port: 80 }] })).toMatchObject({
      metadata: {
        name: 'web',
        namespace: 'default',
        uid: expect.stringMatching(/^[0-9a-f-]{36}$/),
        creationTimestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
        resourceVersion: String(server.resourceVersion),
        generation: 1,
      },
      spec: {
        type: 'ClusterIP',
        clusterIP: '10.96.0.2',
        clusterIPs: ['10.96.0.2'],
        ipFamilies: ['IPv4'],
        ipFamilyPolicy: 'SingleStack',
        sessionAffinity: 'None',
        internalTrafficPolicy: 'Cluster',
        ports: [{ port: 80, targetPort: 80, protocol: 'TCP' }],
      },
      status: { loadBalancer: {} },
    })
  })

  test.each<[string, JsonObject, JsonObject]>([
    [
      'dual stack',
      { ports: [{ port: 80 }], ipFamilyPolicy: 'PreferDualStack' },
      { clusterIPs: ['10.96.0.2', 'fd00:10:96::2'], ipFamilies: ['IPv4', 'IPv6'] },
    ],
    ['IPv6', { ports: [{ port: 80 }], ipFamilies: ['IPv6'] }, { clusterIPs: ['fd00:10:96::2'], ipFamilies: ['IPv6'] }],
    [
      'a given address',
      { ports: [{ port: 80 }], clusterIP: '10.96.7.7' },
      { clusterIPs: ['10.96.7.7'], ipFamilies: ['IPv4'] },
    ],
    ['headless', { clusterIP: 'None' }, { clusterIP: 'None', clusterIPs: ['None'] }],
    [
      'affinity',
      { ports: [{ port: 80 }], sessionAffinity: 'ClientIP' },
      { sessionAffinityConfig: { clientIP: { timeoutSeconds: 10_800 } } },
    ],
    [
      'NodePort, one number for TCP and UDP',
      {
        type: 'NodePort',
        ports: [
          { name: 'a', port: 53 },
          { name: 'b', port: 53, protocol: 'UDP' },
        ],
      },
      {
        externalTrafficPolicy: 'Cluster',
        ports: [
          { name: 'a', nodePort: 30_000 },
          { name: 'b', nodePort: 30_000 },
        ],
      },
    ],
    [
      'LoadBalancer with policy Local',
      { type: 'LoadBalancer', externalTrafficPolicy: 'Local', ports: [{ port: 80 }] },
      { allocateLoadBalancerNodePorts: true, healthCheckNodePort: 30_001, ports: [{ nodePort: 30_000 }] },
    ],
    [
      'external IPs',
      { ports: [{ port: 80 }], externalIPs: ['192.0.2.1'] },
      { type: 'ClusterIP', externalTrafficPolicy: 'Cluster' },
    ],
  ])('%s', async (_name, spec, expected) => {
    const made = await create(spec)
    expect(made.spec).toMatchObject(expected)
  })

  test('an ExternalName Service has no address', async () => {
    expect((await create({ type: 'ExternalName', externalName: 'x.example' })).spec).toEqual({
      type: 'ExternalName',
      externalName: 'x.example',
      sessionAffinity: 'None',
    })
  })

  test('refuses what a real server refuses', async () => {
    await create({ ports: [{ port: 80, nodePort: 30_500 }], type: 'NodePort', clusterIP: '10.96.7.7' })
    const refused = (name: string, spec: JsonObject) => statusOf('POST', services, { ...service(name), spec })
    expect(await refused('web', { ports: [{ port: 80 }] })).toBe(409)
    expect(await refused('b', { ports: [{ port: 80 }], clusterIP: '10.96.7.7' })).toBe(422)
    expect(await refused('c', { ports: [{ port: 80, nodePort: 30_500 }], type: 'NodePort' })).toBe(422)
    expect(await refused('d', { ports: [] })).toBe(422)
    expect(await refused('e', { ports: [{ port: 0 }] })).toBe(422)
    expect(await refused('Bad_Name', { ports: [{ port: 80 }] })).toBe(422)
    expect(await statusOf('POST', services, { ...service('f', {}, 'other') })).toBe(400)
    expect(await statusOf('POST', services, { ...service('g'), kind: 'Node' })).toBe(400)
    expect(await statusOf('POST', services, service('h'), 'application/vnd.kubernetes.protobuf')).toBe(415)
    expect(server.list('Service').length).toBe(1)
  })

  test('generates names, ignores a status, and leaves nothing behind with dryRun', async () => {
    const made = await ok('POST', services, {
      ...service(''),
      metadata: { generateName: 'x-' },
      status: { loadBalancer: { ingress: [{}] } },
    })
    expect(valueAt(made, 'metadata', 'name')).toMatch(/^x-.{5}$/)
    expect(made.status).toEqual({ loadBalancer: {} })
    await ok('POST', `${services}?dryRun=All`, service('dry'))
    expect(await statusOf('GET', `${services}/dry`)).toBe(404)
  })

  test('an address and a node port are free again after the deletion', async () => {
    await create({ type: 'NodePort', clusterIP: '10.96.7.7', ports: [{ port: 80, nodePort: 30_500 }] })
    await ok('DELETE', `${services}/web`)
    expect(
      (await create({ type: 'NodePort', clusterIP: '10.96.7.7', ports: [{ port: 80, nodePort: 30_500 }] })).kind,
    ).toBe('Service')
  })
})

describe('an update', () => {
  test('needs the present revision if it names one', async () => {
    const made = await create({ ports: [{ port: 80 }] })
    const changed = await ok('PUT', `${services}/web`, {
      ...made,
      spec: { ...Object(made.spec), sessionAffinity: 'ClientIP' },
    })
    expect(valueAt(changed, 'metadata', 'generation')).toBe(2)
    expect(await statusOf('PUT', `${services}/web`, made)).toBe(409)
    expect(await statusOf('PUT', `${services}/none`, service('none'))).toBe(404)
  })

  test('keeps address, node ports and status that the client does not send', async () => {
    const made = await create({ type: 'NodePort', ports: [{ port: 80 }] })
    const updated = await ok('PUT', `${services}/web`, {
      ...service('web'),
      spec: { type: 'NodePort', ports: [{ port: 80, targetPort: 8080 }] },
    })
    expect(valueAt(updated, 'spec', 'clusterIP')).toBe(valueAt(made, 'spec', 'clusterIP'))
    expect(valueAt(updated, 'spec', 'ports')).toMatchObject([{ nodePort: 30_000, targetPort: 8080 }])
    expect(valueAt(updated, 'metadata', 'uid')).toBe(valueAt(made, 'metadata', 'uid'))
  })

  test('that changes nothing has no new revision and no event', async () => {
    const made = await create({ ports: [{ port: 80 }] })
    const updated = await ok('PUT', `${services}/web`, made)
    expect(updated.metadata).toEqual(made.metadata)
  })

  test('status and the rest are apart', async () => {
    await create({ ports: [{ port: 80 }] })
    const status = { loadBalancer: { ingress: [{ ip: '203.0.113.1' }] } }
    await ok('PATCH', `${services}/web`, { status }, merge)
    expect(server.get({ kind: 'Service', name: 'web' })?.status).toEqual({ loadBalancer: {} })
    await ok('PATCH', `${services}/web/status`, { status, spec: { sessionAffinity: 'ClientIP' } }, merge)
    expect(server.get({ kind: 'Service', name: 'web' })).toMatchObject({
      status,
      spec: { sessionAffinity: 'None' },
      metadata: { generation: 1 },
    })
    await ok('POST', '/api/v1/nodes', {
      kind: 'Node',
      apiVersion: 'v1',
      metadata: { name: 'n' },
      status: { phase: 'x' },
    })
    await ok('PUT', '/api/v1/nodes/n/status', {
      kind: 'Node',
      apiVersion: 'v1',
      metadata: { name: 'n' },
      status: { phase: 'y' },
    })
    expect(server.get({ kind: 'Node', name: 'n' })?.status).toEqual({ phase: 'y' })
  })

  test('patches of all kinds', async () => {
    await create({
      ports: [
        { port: 80, name: 'a' },
        { port: 81, name: 'b' },
      ],
    })
    const ports = async (body: unknown, type: string) =>
      valueAt(await ok('PATCH', `${services}/web`, body, type), 'spec', 'ports')
    expect(
      await ports({ spec: { ports: [{ port: 81, targetPort: 9 }] } }, 'application/strategic-merge-patch+json'),
    ).toMatchObject([
      { port: 80, targetPort: 80 },
      { port: 81, targetPort: 9, name: 'b' },
    ])
    expect(await ports([{ op: 'remove', path: '/spec/ports/0' }], 'application/json-patch+json')).toMatchObject([
      { port: 81 },
    ])
    expect(await ports({ spec: { ports: [{ port: 82 }] } }, merge)).toMatchObject([{ port: 82, protocol: 'TCP' }])
    expect(await statusOf('PATCH', `${services}/web`, { metadata: { resourceVersion: '1' } }, merge)).toBe(409)
    expect(await statusOf('PATCH', `${services}/web`, {}, 'application/apply-patch+yaml')).toBe(415)
    expect(
      await statusOf(
        'PATCH',
        `${services}/web`,
        { spec: { clusterIP: '10.96.1.1', clusterIPs: ['10.96.1.1'] } },
        merge,
      ),
    ).toBe(422)
  })
})

describe('a delete', () => {
  test('answers with a Status; preconditions are held', async () => {
    const made = await create({ ports: [{ port: 80 }] })
    expect(await statusOf('DELETE', `${services}/web`, { preconditions: { uid: 'other' } })).toBe(409)
    const uid = valueAt(made, 'metadata', 'uid')
    expect(await ok('DELETE', `${services}/web`, { preconditions: { uid } })).toMatchObject({
      kind: 'Status',
      status: 'Success',
    })
    expect(await statusOf('DELETE', `${services}/web`)).toBe(404)
  })

  test('waits for finalizers', async () => {
    server.put({ ...service('web'), metadata: { name: 'web', finalizers: ['x/y'] } })
    await ok('DELETE', `${services}/web`)
    expect(valueAt(server.get({ kind: 'Service', name: 'web' }), 'metadata', 'deletionTimestamp')).toBeTypeOf('string')
    await ok('PATCH', `${services}/web`, { metadata: { finalizers: null } }, merge)
    expect(server.get({ kind: 'Service', name: 'web' })).toBeUndefined()
  })

  test('of a collection takes those selected', async () => {
    server.put([service('a', { t: '1' }), service('b', { t: '1' }), service('c'), service('d', { t: '1' }, 'other')])
    await ok('DELETE', `${services}?labelSelector=t`)
    expect(server.list('Service').map(s => valueAt(s, 'metadata', 'name'))).toEqual(['c', 'd'])
  })
})

describe('Events', () => {
  const event = {
    apiVersion: 'events.k8s.io/v1',
    kind: 'Event',
    metadata: { name: 'e', namespace: 'default' },
    regarding: { kind: 'Service', name: 'web' },
    note: 'said',
    reason: 'Why',
    type: 'Warning',
    reportingController: 'penstock',
  }

  test('written under one group are read and watched under both', async () => {
    const watch = await openWatch(server, '/api/v1/events?watch=1&fieldSelector=involvedObject.name%3Dweb')
    await ok('POST', '/apis/events.k8s.io/v1/namespaces/default/events', event)
    expect(summary(await watch.first(1))).toEqual(['ADDED e'])
    expect(await ok('GET', '/api/v1/namespaces/default/events/e')).toMatchObject({
      apiVersion: 'v1',
      involvedObject: { name: 'web' },
      message: 'said',
      reportingComponent: 'penstock',
    })
    await ok('PATCH', '/apis/events.k8s.io/v1/namespaces/default/events/e', { series: { count: 2 } }, merge)
    expect(await ok('GET', '/apis/events.k8s.io/v1/namespaces/default/events/e')).toMatchObject({
      ...event,
      series: { count: 2 },
    })
    expect(await ok('GET', '/apis/events.k8s.io/v1/events?fieldSelector=regarding.kind%3DService')).toMatchObject({
      kind: 'EventList',
      apiVersion: 'events.k8s.io/v1',
      items: [{ note: 'said' }],
    })
  })
})
