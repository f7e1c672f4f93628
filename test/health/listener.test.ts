// The HTTP listener against what it will meet: ports taken and freed, both families, and clients that mean ill.
import { Agent } from 'node:http'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { Connections } from '../../src/health/connections.ts'
import { HttpListener, type ListenerOptions } from '../../src/health/listener.ts'
import { type HttpRequest, textAnswer } from '../../src/net/http.ts'
import { ask, ended, freePort, ip, occupy, refusal, silent, until } from './client.ts'

const loopback = ip('127.0.0.1')
const open: HttpListener[] = []
const sockets: Socket[] = []

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  await Promise.all(open.splice(0).map(listener => listener.close()))
})

interface Heard {
  readonly listener: HttpListener
  readonly failures: string[]
  readonly listening: string[]
  readonly errors: unknown[]
  readonly requests: HttpRequest[]
  /** Where it listens. */
  readonly port: number
}

async function start(options: Partial<ListenerOptions> = {}): Promise<Heard> {
  const failures: string[] = []
  const listening: string[] = []
  const errors: unknown[] = []
  const requests: HttpRequest[] = []
  const listener = new HttpListener({
    binding: { address: loopback, port: 0 },
    handle: request => {
      requests.push(request)
      return textAnswer(200, 'here\n')
    },
    onListenFailure: reason => failures.push(reason),
    onListening: ({ address }) => listening.push(address),
    onError: error => errors.push(error),
    ...options,
  })
  open.push(listener)
  await listener.start()
  return { listener, failures, listening, errors, requests, port: listener.listeningAt?.port ?? 0 }
}

describe('a port', () => {
  it('is served, whatever the method, and HEAD without a body', async () => {
    const { port, requests } = await start()
    expect(await ask(port, '/any?query=1')).toMatchObject({ status: 200, body: 'here\n' })
    expect(await ask(port, '/', { method: 'POST', body: 'something' })).toMatchObject({ status: 200, body: 'here\n' })
    const head = await ask(port, '/', { method: 'HEAD' })
    expect([head.status, head.body, head.headers['content-length']]).toEqual([200, '', '5'])
    expect(await ask(port, 'http://elsewhere:80/absolute?x')).toMatchObject({ status: 200 })
    expect(requests).toEqual([
      { method: 'GET', path: '/any' },
      { method: 'POST', path: '/' },
      { method: 'HEAD', path: '/' },
      { method: 'GET', path: '/absolute' },
    ])
  })

  it('that is taken is told once and tried again; once freed it is served', async () => {
    const other = await occupy()
    const binding = { address: loopback, port: other.port }
    const { listener, failures, listening } = await start({ binding, patience: { retryMs: 20 } })
    expect(listener.listeningAt).toBeUndefined()
    // Time for some more attempts, which fail for the same reason.
    await sleep(100)
    expect(failures).toEqual([
      `cannot listen on 127.0.0.1:${other.port}: another program has this port; it is tried again every 0.02 s`,
    ])
    await other.free()
    await until(() => listener.listeningAt !== undefined)
    expect(listening).toEqual(['127.0.0.1'])
    expect((await ask(other.port, '/')).status).toBe(200)
  })

  it('that is taken is tried at once when asked to, and said no second time', async () => {
    const other = await occupy()
    const binding = { address: loopback, port: other.port }
    const { listener, failures } = await start({ binding, patience: { retryMs: 60_000 } })
    expect(failures).toHaveLength(1)
    listener.retryNow()
    await other.free()
    await until(() => {
      listener.retryNow()
      return listener.listeningAt !== undefined
    })
    expect(failures).toHaveLength(1)
  })

  it('that is taken ends the start when it must be had', async () => {
    const other = await occupy()
    const binding = { address: loopback, port: other.port }
    await expect(start({ binding, hardFail: true })).rejects.toThrow(
      new RegExp(`^cannot listen on 127.0.0.1:${other.port}: another program has this port$`),
    )
    await other.free()
  })

  it('of an address that the machine does not have waits for it', async () => {
    const { failures } = await start({ binding: { address: ip('192.0.2.1'), port: 1 } })
    expect(failures).toEqual([
      'cannot listen on 192.0.2.1:1: this machine has no such address; it is tried again every 5 s',
    ])
  })

  it('is free for another at once when it is given up, also while it is about to be taken', async () => {
    const { listener, port } = await start()
    const closing = listener.close()
    const { free } = await occupy(port)
    await Promise.all([closing, free()])
    const early = new HttpListener({
      binding: { address: loopback, port },
      handle: () => textAnswer(200, ''),
      onListenFailure: () => undefined,
    })
    const starting = early.start()
    await early.close()
    await starting
    expect(early.listeningAt).toBeUndefined()
    expect(await refusal(port)).toBe('ECONNREFUSED')
  })

  it('is not tried any more once closed', async () => {
    const other = await occupy()
    const binding = { address: loopback, port: other.port }
    const { listener } = await start({ binding, patience: { retryMs: 10 } })
    await listener.close()
    await other.free()
    await sleep(50)
    expect(await refusal(other.port)).toBe('ECONNREFUSED')
  })
})

describe('an address', () => {
  it.each(['0.0.0.0', '::'])('%s in dual stack answers both families', async address => {
    const { port } = await start({ binding: { address: ip(address), port: 0, dualStack: true } })
    expect(await ask(port, '/')).toMatchObject({ status: 200 })
    expect(await ask(port, '/', { host: '::1' })).toMatchObject({ status: 200 })
  })

  it.each([
    ['0.0.0.0', '127.0.0.1', '::1'],
    ['::', '::1', '127.0.0.1'],
  ])('%s of one family answers %s and leaves %s to others', async (address, own, other) => {
    const { port } = await start({ binding: { address: ip(address), port: 0 } })
    expect(await ask(port, '/', { host: own })).toMatchObject({ status: 200 })
    const { free } = await occupy(port, other)
    await free()
    expect(await refusal(port, '/', { host: other })).toBe('ECONNREFUSED')
  })

  it('of dual stack is not had while one family of the port is taken', async () => {
    const other = await occupy(0, '0.0.0.0')
    const { failures, listener } = await start({
      binding: { address: ip('0.0.0.0'), port: other.port, dualStack: true },
      patience: { retryMs: 20 },
    })
    expect(failures).toHaveLength(1)
    await other.free()
    await until(() => listener.listeningAt !== undefined)
  })

  it('that is not unspecified is that address alone, in either family', async () => {
    const { port } = await start({ binding: { address: ip('::1'), port: 0, dualStack: true } })
    expect(await ask(port, '/', { host: '::1' })).toMatchObject({ status: 200 })
    expect(await refusal(port)).toBe('ECONNREFUSED')
  })
})

describe('clients', () => {
  it('that keep their connection are ended at once by closing', async () => {
    const { listener, port } = await start()
    const agent = new Agent({ keepAlive: true })
    const first = await ask(port, '/', { agent })
    expect(first.headers.connection).toBe('keep-alive')
    const idle = await silent(port)
    const half = await silent(port, 'GET / HTTP/1.1\r\nHost: x\r\n')
    await listener.close()
    expect(await Promise.all([ended(idle), ended(half)])).toEqual(['', ''])
    expect(await refusal(port, '/', { agent })).toMatch(/^ECONN(REFUSED|RESET)$/)
    agent.destroy()
  })

  it('in the middle of an answer are ended too', async () => {
    const asked = Promise.withResolvers<void>()
    const never = new Promise<never>(() => undefined)
    const { listener, port } = await start({
      handle: () => {
        asked.resolve()
        return never
      },
    })
    const answer = refusal(port)
    await asked.promise
    await listener.close()
    expect(await answer).toBe('ECONNRESET')
  })

  it('use one connection for many requests', async () => {
    const connections = new Connections(8)
    const { port } = await start({ connections })
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    for (let i = 0; i < 40; i++) expect((await ask(port, '/', { agent })).status).toBe(200)
    expect(connections.size).toBe(1)
    agent.destroy()
    await until(() => connections.size === 0)
  })

  it('by the thousand that say nothing or half a request keep no probe out', async () => {
    const connections = new Connections(256)
    const { port } = await start({ connections })
    for (let i = 0; i < 1_000; i++) {
      const socket = await silent(port, i % 2 === 0 ? '' : 'GET /healthz HTTP/1.1\r\nHost: ')
      sockets.push(socket.on('error', () => undefined).resume())
      if (i % 100 === 99) expect((await ask(port, '/')).status).toBe(200)
    }
    expect(connections.size).toBeLessThanOrEqual(256)
    await until(() => sockets.slice(0, 700).every(socket => socket.closed))
    expect((await ask(port, '/')).status).toBe(200)
  })

  it('that do not finish their request are ended in time, those that are idle too', async () => {
    const { port } = await start({ patience: { headersMs: 60, requestMs: 60, idleMs: 60, lookMs: 20 } })
    const texts = await Promise.all([
      silent(port).then(ended),
      silent(port, 'GET / HTTP/1.1\r\nHost: x').then(ended),
      silent(port, 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc').then(ended),
      silent(port, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n').then(ended),
    ])
    expect(texts.map(text => text.split('\r\n', 1)[0])).toEqual([
      'HTTP/1.1 408 Request Timeout',
      'HTTP/1.1 408 Request Timeout',
      'HTTP/1.1 200 OK',
      'HTTP/1.1 200 OK',
    ])
  })

  it('that read no answer are ended in time', async () => {
    const connections = new Connections(8)
    const body = 'x'.repeat(20_000_000)
    const { port } = await start({ connections, handle: () => textAnswer(200, body), patience: { stallMs: 200 } })
    const socket = await silent(port, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    sockets.push(socket.on('error', () => undefined).pause())
    await until(() => connections.size === 1)
    await until(() => connections.size === 0)
  })

  it('that send many requests and wait for none are cut off', async () => {
    let answers = 0
    const { port } = await start({
      handle: () => {
        answers++
        return textAnswer(200, 'x')
      },
    })
    const socket = await silent(port, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(500))
    await ended(socket)
    expect(answers).toBeLessThanOrEqual(16)
  })

  it('that send nonsense or endless headers get an error and no more', async () => {
    const { port, requests } = await start()
    expect(await ended(await silent(port, 'nonsense\r\n\r\n'))).toMatch(/^HTTP\/1.1 400 Bad Request/)
    const endless = `GET / HTTP/1.1\r\nHost: x\r\nA: ${'a'.repeat(20_000)}\r\n`
    expect(await ended(await silent(port, endless))).toMatch(/^HTTP\/1.1 431 /)
    expect(await ended(await silent(port, 'GET / HTTP/1.0\r\n\r\n'))).toMatch(/^HTTP\/1.1 200 OK/)
    expect(requests).toHaveLength(1)
  })

  it('get status 500 for what a handler throws, and the server goes on', async () => {
    const failure = new Error('no')
    let fails = true
    const { port, errors } = await start({
      handle: () => {
        if (fails) throw failure
        return textAnswer(200, 'again')
      },
    })
    expect(await ask(port, '/')).toMatchObject({ status: 500, body: 'this could not be answered; the log says why\n' })
    expect(errors).toEqual([failure])
    fails = false
    expect((await ask(port, '/')).body).toBe('again')
  })

  it('are cut off where an answer has a header that HTTP does not allow, and the server goes on', async () => {
    let header = 'two\nlines'
    const { port, errors } = await start({ handle: () => textAnswer(200, 'x', { 'X-Header': header }) })
    expect(await refusal(port)).toBe('ECONNRESET')
    expect(errors).toHaveLength(1)
    header = 'one line'
    expect((await ask(port, '/')).status).toBe(200)
  })
})

describe('the limit of connections', () => {
  it('is shared by servers that are given the same, and spares what is being answered', async () => {
    const connections = new Connections(4)
    const release = Promise.withResolvers<void>()
    const slow = await start({
      connections,
      handle: async () => {
        await release.promise
        return textAnswer(200, 'slow')
      },
    })
    const quick = await start({ connections })
    const waiting = ask(slow.port, '/')
    await until(() => connections.size === 1)
    const first = await silent(quick.port)
    const firstEnded = ended(first)
    for (let i = 0; i < 8; i++) sockets.push(await silent(quick.port))
    await firstEnded
    expect((await ask(quick.port, '/')).status).toBe(200)
    release.resolve()
    expect((await waiting).body).toBe('slow')
    expect(connections.size).toBeLessThanOrEqual(4)
  })

  it('lets the newest in even where all wait for answers', async () => {
    const connections = new Connections(2)
    let answers = false
    const never = new Promise<never>(() => undefined)
    const { port } = await start({ connections, handle: () => (answers ? textAnswer(200, 'in') : never) })
    const stuck = [refusal(port), refusal(port)]
    await until(() => connections.size === 2)
    answers = true
    expect((await ask(port, '/')).body).toBe('in')
    expect(await stuck[0]).toBe('ECONNRESET')
  })
})

it('takes a port that was free a moment ago', async () => {
  const port = await freePort('::1')
  const { listener } = await start({ binding: { address: ip('::1'), port } })
  expect(listener.listeningAt).toEqual({ address: '::1', port })
})
