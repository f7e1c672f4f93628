// Lists over HTTP: authentication, paging, revisions, selectors.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { textAt } from '../support/apiserver/json.ts'
import { type ApiServer, startApiServer } from '../support/apiserver/server.ts'
import { allServices, call, service, services } from './client.ts'

let server: ApiServer
beforeEach(async () => {
  server = await startApiServer()
})
afterEach(() => server.stop())

interface List {
  kind: string
  metadata: { resourceVersion: string; continue?: string; remainingItemCount?: number }
  items: { kind?: string; metadata: { name: string; resourceVersion: string } }[]
}

async function list(path: string): Promise<List> {
  const { status, body } = await call(server, path)
  expect(status).toBe(200)
  return body as List
}

const names = (page: List): string[] => page.items.map(item => item.metadata.name)
const put = (...all: string[]) => server.put(all.map(name => service(name)))

describe('authentication', () => {
  test.each([null, 'wrong'])('token %s is refused with a 401 Status', async token => {
    const { status, body } = await call(server, allServices, { token })
    expect(status).toBe(401)
    expect(body).toMatchObject({ kind: 'Status', status: 'Failure', reason: 'Unauthorized', code: 401 })
  })

  test('health needs no token', async () => {
    expect(await call(server, '/readyz', { token: null })).toMatchObject({ status: 200, body: 'ok' })
  })

  test('a rotated token counts from the next request on', async () => {
    const old = server.token
    server.rotateToken({ keepOld: true })
    expect((await call(server, allServices, { token: old })).status).toBe(200)
    server.rotateToken()
    expect((await call(server, allServices, { token: old })).status).toBe(401)
    expect((await call(server, allServices)).status).toBe(200)
  })

  test('the certificate is vouched for by the CA, and by the new one only after a swap', async () => {
    const old = server.ca
    await server.swapCertificate()
    expect((await call(server, allServices)).status).toBe(200)
    await server.swapCertificate({ newAuthority: true })
    await expect(call(server, allServices, { ca: old })).rejects.toThrow(/certificate/)
    expect((await call(server, allServices)).status).toBe(200)
  })
})

describe('a list', () => {
  test('has the revision of the present, items in key order and without kind', async () => {
    put('b', 'a')
    const page = await list(allServices)
    expect(page).toMatchObject({ kind: 'ServiceList', metadata: { resourceVersion: String(server.resourceVersion) } })
    expect(names(page)).toEqual(['a', 'b'])
    expect(page.items[0]?.kind).toBeUndefined()
  })

  test('is of one namespace or of all', async () => {
    put('a')
    server.put(service('b', {}, 'other'))
    expect(names(await list(services))).toEqual(['a'])
    expect(names(await list(allServices))).toEqual(['a', 'b'])
  })

  test('pages show one state, however much changes in between', async () => {
    put('a', 'b', 'c', 'd', 'e')
    const first = await list(`${allServices}?limit=2`)
    expect(names(first)).toEqual(['a', 'b'])
    expect(first.metadata.remainingItemCount).toBe(3)
    server.delete({ kind: 'Service', name: 'c' })
    put('aa', 'cc')
    const second = await list(`${allServices}?limit=2&continue=${first.metadata.continue}`)
    expect(names(second)).toEqual(['c', 'd'])
    const third = await list(`${allServices}?limit=2&continue=${second.metadata.continue}`)
    expect(names(third)).toEqual(['e'])
    expect(third.metadata.continue).toBeUndefined()
    expect(third.metadata.resourceVersion).toBe(first.metadata.resourceVersion)
  })

  test('a continue token from before a compaction is 410, with a token that goes on at the present', async () => {
    put('a', 'b', 'c')
    const first = await list(`${allServices}?limit=2`)
    put('bb')
    server.compact()
    const { status, body } = await call(server, `${allServices}?limit=2&continue=${first.metadata.continue}`)
    expect(status).toBe(410)
    expect(body).toMatchObject({ reason: 'Expired', code: 410 })
    const rest = await list(`${allServices}?continue=${textAt(body, 'metadata', 'continue')}`)
    expect(names(rest)).toEqual(['bb', 'c'])
    expect(rest.metadata.resourceVersion).toBe(String(server.resourceVersion))
  })

  test('at a revision: exactly that one, or not older, or refused', async () => {
    put('a')
    const then = server.resourceVersion
    put('b')
    expect(names(await list(`${allServices}?resourceVersion=${then}&resourceVersionMatch=Exact`))).toEqual(['a'])
    expect(names(await list(`${allServices}?resourceVersion=${then}&resourceVersionMatch=NotOlderThan`))).toEqual([
      'a',
      'b',
    ])
    expect(names(await list(`${allServices}?resourceVersion=${then}&limit=5`))).toEqual(['a'])
    server.compact()
    expect((await call(server, `${allServices}?resourceVersion=${then}&resourceVersionMatch=Exact`)).status).toBe(410)
    expect((await call(server, `${allServices}?resourceVersionMatch=Exact`)).status).toBe(422)
    expect((await call(server, `${allServices}?resourceVersion=x`)).status).toBe(400)
  })

  test('at revision 0 it is whole whatever the limit, as from the watch cache', async () => {
    put('a', 'b', 'c')
    const page = await list(`${allServices}?resourceVersion=0&limit=2`)
    expect(names(page)).toEqual(['a', 'b', 'c'])
    expect(page.metadata.continue).toBeUndefined()
  })

  test('at a revision that is yet to come it is 504 with the cause clients look for', async () => {
    const { status, body } = await call(server, `${allServices}?resourceVersion=${server.resourceVersion + 1}`)
    expect(status).toBe(504)
    expect(body).toMatchObject({ reason: 'Timeout', details: { causes: [{ reason: 'ResourceVersionTooLarge' }] } })
  })

  test('selectors filter and page', async () => {
    server.put([service('a', { t: '1' }), service('b'), service('c', { t: '1' }), service('d', { t: '2' })])
    expect(names(await list(`${allServices}?labelSelector=${encodeURIComponent('t in (1,2),t!=2')}`))).toEqual([
      'a',
      'c',
    ])
    expect(names(await list(`${allServices}?labelSelector=${encodeURIComponent('!t')}`))).toEqual(['b'])
    expect(names(await list(`${allServices}?fieldSelector=metadata.name%3Dd`))).toEqual(['d'])
    const first = await list(`${allServices}?limit=2&labelSelector=t`)
    expect(names(first)).toEqual(['a', 'c'])
    expect(first.metadata.remainingItemCount).toBeUndefined()
    expect(names(await list(`${allServices}?limit=2&labelSelector=t&continue=${first.metadata.continue}`))).toEqual([
      'd',
    ])
    expect((await call(server, `${allServices}?labelSelector=${encodeURIComponent('a in (')}`)).status).toBe(400)
  })

  test('a page that just ends with the last object has no continue token', async () => {
    put('a', 'b')
    expect((await list(`${allServices}?limit=2`)).metadata.continue).toBeUndefined()
  })

  test('a large list arrives whole', async () => {
    server.put(Array.from({ length: 3000 }, (_, i) => service(`s-${i}`)))
    expect((await list(allServices)).items.length).toBe(3000)
  })

  test('unknown paths are 404, methods nobody has 405', async () => {
    expect((await call(server, '/api/v1/pods')).status).toBe(404)
    expect((await call(server, '/apis/apps/v1/deployments')).status).toBe(404)
    expect((await call(server, `${services}/a/scale`)).status).toBe(404)
    expect((await call(server, services, { method: 'PUT', body: {} })).status).toBe(405)
  })
})
