// Events written to the embedded API server: created, counted on, and seen as core v1 too. What requests are counted as.
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { openConnection } from '../../src/api/connection.ts'
import { createEventWriter } from '../../src/api/event-writer.ts'
import type { Connection, RequestFacts } from '../../src/api/transport.ts'
import { createEventRecorder } from '../../src/observe/events.ts'
import { notProgrammed } from '../../src/observe/events-known.ts'
import type { ApiServer } from '../support/apiserver/server.ts'
import { startServer, temporaryDirectory } from './harness.ts'

interface World {
  readonly server: ApiServer
  readonly connection: Connection
  readonly requests: RequestFacts[]
}

async function startWorld(): Promise<World> {
  const server = await startServer({})
  server.put([{ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } }])
  const kubeconfig = path.join(temporaryDirectory(), 'kubeconfig')
  writeFileSync(kubeconfig, server.kubeconfig())
  const requests: RequestFacts[] = []
  const connection = openConnection({ kubeconfig, onRequest: facts => requests.push(facts) })
  onTestFinished(() => connection.close())
  return { server, connection, requests }
}

const refused = notProgrammed(
  { namespace: 'shop', name: 'web', uid: 'u-1' },
  'node-a',
  'shop/web:http',
  'no such module',
)

it('a recorded event is in the API, and its repeats are counted there', async () => {
  const { server, connection } = await startWorld()
  const recorder = createEventRecorder({ write: createEventWriter(connection), nodeName: 'node-a' })
  onTestFinished(() => recorder.stop())
  recorder.record(refused)
  await recorder.idle()
  recorder.record(refused)
  await recorder.idle()
  expect(recorder.counts()).toEqual({ written: 2, merged: 1, refused: 0, dropped: 0 })
  expect(server.list('Event')).toMatchObject([
    {
      metadata: { namespace: 'shop', name: expect.stringMatching(/^web\.[0-9a-f]+$/) },
      involvedObject: { kind: 'Service', namespace: 'shop', name: 'web', uid: 'u-1' },
      reason: 'NotProgrammed',
      type: 'Warning',
      reportingComponent: 'kube-penstock',
      message: expect.stringContaining('no such module'),
      series: { count: 2, lastObservedTime: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/) },
    },
  ])
})

it('hands back the status of an answer, and rejects where there is none', async () => {
  const { server, connection } = await startWorld()
  const write = createEventWriter(connection)
  expect(await write('PATCH', '/apis/events.k8s.io/v1/namespaces/shop/events/none', {})).toEqual({ status: 404 })
  server.fault({ kind: 'status', code: 429, retryAfterSeconds: 3, count: 1 })
  expect(await write('POST', '/apis/events.k8s.io/v1/namespaces/shop/events', {})).toEqual({
    status: 429,
    retryAfterMs: 3_000,
  })
  server.refuseConnections()
  await expect(write('POST', '/apis/events.k8s.io/v1/namespaces/shop/events', {})).rejects.toThrow()
})

it('an event under way ends with its signal', async () => {
  const { server, connection } = await startWorld()
  server.fault({ kind: 'stall', count: 1 })
  const stop = new AbortController()
  const writing = createEventWriter(connection)(
    'POST',
    '/apis/events.k8s.io/v1/namespaces/shop/events',
    {},
    stop.signal,
  )
  setTimeout(() => stop.abort(new Error('enough')), 20)
  await expect(writing).rejects.toThrow('enough')
})

it('every request is told of once, with the server as host', async () => {
  const { server, connection, requests } = await startWorld()
  const write = createEventWriter(connection)
  const events = '/apis/events.k8s.io/v1/namespaces/shop/events'
  await write('PATCH', `${events}/none`, {})
  server.fault({ kind: 'status', code: 401, count: 1 })
  await write('PATCH', `${events}/none`, {})
  server.refuseConnections()
  await write('PATCH', `${events}/none`, {}).catch(() => undefined)
  const host = new URL(connection.server).host
  expect(requests.slice(0, 3)).toMatchObject([
    { method: 'PATCH', host, status: 404 },
    { method: 'PATCH', host, status: 401 },
    { method: 'PATCH', host, status: 404, retryOf: 401 },
  ])
  expect(requests.slice(0, 2).every(({ retryOf }) => retryOf === undefined)).toBe(true)
  expect(requests.slice(3).length).toBeGreaterThan(0)
  expect(requests.slice(3).every(({ status }) => status === 0)).toBe(true)
})
