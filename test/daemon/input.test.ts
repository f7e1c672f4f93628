// Commands that look once and an API server that does not answer, or not everything.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { CommandContext } from '../../src/commands/context.ts'
import { loadOnce } from '../../src/commands/input.ts'
import { parseCommandLine } from '../../src/config/flags.ts'
import { load } from '../../src/config/load.ts'
import { Store } from '../../src/model/store.ts'
import { makeLogger } from '../../src/observe/log.ts'
import { type ApiServer, startApiServer } from '../support/apiserver/server.ts'
import { StrictExec } from '../support/strict-iptables/exec.ts'

let server: ApiServer
let directory: string
beforeEach(async () => {
  server = await startApiServer({})
  directory = await mkdtemp(join(tmpdir(), 'penstock-input-'))
})
afterEach(async () => {
  await server.stop()
  await rm(directory, { recursive: true, force: true })
})

async function context(): Promise<CommandContext> {
  const kubeconfig = join(directory, 'kubeconfig')
  await writeFile(kubeconfig, server.kubeconfig())
  const commandLine = parseCommandLine(['run', '--once', '--kubeconfig', kubeconfig, '--hostname-override', 'node-a'])
  const { configuration, notices } = load(commandLine, () => '')
  const log = makeLogger({ format: 'json', verbosity: 0, destination: new (await import('node:stream')).PassThrough() })
  const { signal } = new AbortController()
  return { commandLine, configuration, notices, log, exec: new StrictExec(), signal, print: () => 0 }
}

it('gives up on a server that is not there, and says why', async () => {
  const ready = await context()
  server.refuseConnections()
  await expect(loadOnce(ready, new Store(), { apiMs: 300, nodeMs: 100 })).rejects.toThrow(
    /^no complete list from the API server within 0\.3 s: Service: .+; EndpointSlice: .+/,
  )
})

it('does without the Node object where it may not be seen', async () => {
  server.put({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web', namespace: 'shop' },
    spec: { ports: [{ port: 80 }] },
  })
  server.fault({ kind: 'status', code: 403, resource: 'nodes' })
  const store = new Store()
  await loadOnce(await context(), store, { apiMs: 20_000, nodeMs: 100 })
  expect(store.service('shop/web')).toBeDefined()
  expect(store.node()).toBeUndefined()
})
