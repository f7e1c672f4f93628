// Manifests as a source: what is read, what wins, and what a change or a mistake in the files does.
import { mkdirSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { Problem } from '../../src/api/fields.ts'
import { createManifestSource, type ManifestSource } from '../../src/api/manifests.ts'
import type { ModelEvent } from '../../src/model/records.ts'
import { eventually, Mirror, node, nodeName, service, slice, temporaryDirectory } from './harness.ts'

const text = (...documents: object[]): string =>
  documents.map(document => `---\n${JSON.stringify(document)}\n`).join('')

interface Files {
  readonly directory: string
  readonly problems: Problem[]
  readonly write: (name: string, contents: string) => string
  readonly source: (...paths: string[]) => ManifestSource
}

function files(): Files {
  const directory = temporaryDirectory()
  const problems: Problem[] = []
  return {
    directory,
    problems,
    write: (name, contents) => {
      const file = path.join(directory, name)
      mkdirSync(path.dirname(file), { recursive: true })
      writeFileSync(file, contents)
      return file
    },
    source: (...paths) =>
      createManifestSource({
        paths: paths.length === 0 ? [directory] : paths,
        nodeName,
        report: problem => problems.push(problem),
        stdin: async () => text(service('piped', 40)),
        settleMs: 5,
        pollMs: 60_000,
      }),
  }
}

const keysOf = (events: readonly ModelEvent[]): string[] =>
  events.flatMap(event => (event.kind === 'synced' ? [] : [`${event.kind} ${event.key}`])).sort()

/** Starts watching; the mirror follows until the test ends. */
function follow(source: ManifestSource): Mirror {
  const mirror = new Mirror()
  const controller = new AbortController()
  const running = source.start(mirror.apply, controller.signal)
  onTestFinished(async () => {
    controller.abort()
    await running
  })
  return mirror
}

test('reads documents, Lists and JSON, and passes over what means nothing to a proxy', async () => {
  const { write, source, problems } = files()
  write(
    'a.yaml',
    `# nothing\n---\n${text(service('one', 1), { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'x' } })}`,
  )
  write('deep/er/b.yml', text({ apiVersion: 'v1', kind: 'List', items: [service('two', 2), slice('two', 1, 1)] }))
  const bare = { metadata: { name: 'three' }, spec: { clusterIP: '10.96.1.3', ports: [{ port: 80 }] } }
  write('c.json', JSON.stringify({ apiVersion: 'v1', kind: 'ServiceList', items: [bare] }))
  write('d.txt', 'not: looked at')
  write('.hidden.yaml', text(service('hidden', 9)))
  const events = await source().readOnce()
  expect(keysOf(events)).toEqual([
    'EndpointSlice shop/two-1',
    'Service default/three',
    'Service shop/one',
    'Service shop/two',
  ])
  expect(events.slice(-4).map(event => event.kind)).toEqual(['synced', 'synced', 'synced', 'synced'])
  expect(problems).toEqual([])
})

test('a file that is named is read whatever it is called, and standard input has its place', async () => {
  const { write, source } = files()
  const file = write('plain', text(service('one', 1)))
  expect(keysOf(await source(file, '-').readOnce())).toEqual(['Service shop/one', 'Service shop/piped'])
})

test('selects as the API server would', async () => {
  const { write, source } = files()
  const labelled = {
    ...service('other', 3),
    metadata: { name: 'other', namespace: 'shop', labels: { 'service.kubernetes.io/service-proxy-name': 'x' } },
  }
  write('a.yaml', text(node(nodeName), node('node-b'), labelled))
  const events = await source().readOnce()
  expect(keysOf(events)).toEqual([`Node ${nodeName}`, 'Service shop/other'])
  expect(events.find(event => event.kind === 'Service')).toMatchObject({ record: undefined })
})

test('of two objects with one name the last path wins, and it is reported', async () => {
  const { write, source, problems } = files()
  const first = write('z.yaml', text(service('web', 1, 1111)))
  const second = write('a.yaml', text(service('web', 1, 2222)))
  for (const [paths, port] of [
    [[first, second], 2222],
    [[second, first], 1111],
  ] as const) {
    problems.length = 0
    const events = await source(...paths).readOnce()
    expect(JSON.stringify(events)).toContain(`"port":${port}`)
    expect(keysOf(events)).toEqual(['Service shop/web'])
    expect(problems.map(problem => problem.object)).toEqual(['Service shop/web'])
    expect(problems[0]?.message).toContain(`${paths[1]} wins`)
  }
})

test.each<[string, string, RegExp]>([
  ['broken YAML', `${text(service('ok', 1))}---\nkind: Service\n  bad: [\n`, /a\.yaml: document 2, line \d+: /],
  ['broken JSON', '{"kind": "Service",,}', /a\.yaml: document 1, line 1: /],
])('%s names file, document and line', async (_name, contents, message) => {
  const { write, source } = files()
  write('a.yaml', contents)
  await expect(source().readOnce()).rejects.toThrow(message)
})

test('a path that does not exist is an error', async () => {
  const { directory, source } = files()
  await expect(source(path.join(directory, 'nothing.yaml')).readOnce()).rejects.toThrow(/cannot read .*nothing\.yaml/)
})

test('a document without kind, and a bad object, are reported and the rest is read', async () => {
  const { write, source, problems } = files()
  const file = write('a.yaml', text({ metadata: { name: 'x' } }, service('NOT-A-NAME', 1), service('ok', 2)))
  expect(keysOf(await source().readOnce())).toEqual(['Service shop/ok'])
  expect(problems.map(problem => `${problem.object} ${problem.field}`)).toEqual([
    `${file} document 1`,
    'Service shop/NOT-A-NAME metadata.name',
  ])
})

test('follows new, changed and deleted files, in new directories too', async () => {
  const { write, source, directory } = files()
  write('a.yaml', text(service('one', 1)))
  const mirror = follow(source())
  await eventually(() => expect(mirror.synced).toHaveLength(4))
  write('sub/dir/b.yaml', text(service('two', 2)))
  await eventually(() => expect([...mirror.records.keys()]).toEqual(['Service shop/one', 'Service shop/two']))
  write('sub/dir/b.yaml', text(service('two', 2, 8443), service('three', 3)))
  await eventually(() => {
    expect(JSON.stringify(mirror.records.get('Service shop/two'))).toContain('8443')
    expect(mirror.records.has('Service shop/three')).toBe(true)
  })
  rmSync(path.join(directory, 'a.yaml'))
  await eventually(() => expect(mirror.removed).toEqual(['Service shop/one']))
  rmSync(path.join(directory, 'sub'), { recursive: true })
  await eventually(() => expect(mirror.records.size).toBe(0))
})

test('what a file no longer holds is gone; what another file holds comes back', async () => {
  const { write, source } = files()
  write('a.yaml', text(service('web', 1, 1111)))
  write('b.yaml', text(service('web', 1, 2222), service('more', 2)))
  const mirror = follow(source())
  await eventually(() => expect(JSON.stringify(mirror.records.get('Service shop/web'))).toContain('2222'))
  write('b.yaml', text(service('other', 3)))
  await eventually(() => expect(JSON.stringify(mirror.records.get('Service shop/web'))).toContain('1111'))
  expect(mirror.removed).toEqual(['Service shop/more'])
})

test('a file that breaks keeps what it held, is reported once, and counts again when it is mended', async () => {
  const { write, source, problems } = files()
  const file = write('a.yaml', text(service('one', 1)))
  const mirror = follow(source())
  await eventually(() => expect(mirror.synced).toHaveLength(4))
  write('a.yaml', 'kind: [')
  await eventually(() => expect(problems).toHaveLength(1))
  expect(problems[0]?.object).toBe(file)
  expect(problems[0]?.message).toMatch(/document 1, line \d+: .*stays in force/)
  write('b.yaml', text(service('two', 2)))
  await eventually(() => expect(mirror.records.has('Service shop/two')).toBe(true))
  expect(mirror.records.has('Service shop/one')).toBe(true)
  expect(problems).toHaveLength(1)
  write('a.yaml', text(service('three', 3)))
  await eventually(() => expect(mirror.removed).toEqual(['Service shop/one']))
})

test('while a file was never readable nothing is called synced', async () => {
  const { write, source, problems } = files()
  write('a.yaml', text(service('one', 1)))
  write('b.yaml', 'kind: [')
  const mirror = follow(source())
  await eventually(() => expect(problems).toHaveLength(1))
  expect(mirror.records.has('Service shop/one')).toBe(true)
  expect(mirror.synced).toEqual([])
  write('b.yaml', text(service('two', 2)))
  await eventually(() => expect(mirror.synced).toHaveLength(4))
})

test('an object that goes bad keeps its last good record', async () => {
  const { write, source, problems } = files()
  write('a.yaml', text(service('one', 1)))
  const run = source()
  const mirror = follow(run)
  await eventually(() => expect(mirror.synced).toHaveLength(4))
  write('a.yaml', text({ ...service('one', 1), spec: { type: 'Wrong', clusterIP: '10.96.1.1' } }, service('two', 2)))
  await eventually(() => expect(mirror.records.has('Service shop/two')).toBe(true))
  expect(mirror.records.has('Service shop/one')).toBe(true)
  expect(problems.map(problem => problem.field)).toEqual(['spec.type'])
  expect(run.stats().undecodable).toBe(1)
})

test('follows the swap of links by which a mounted ConfigMap changes', async () => {
  const { write, source, directory } = files()
  write('..v1/a.yaml', text(service('one', 1)))
  symlinkSync('..v1', path.join(directory, '..data'))
  symlinkSync(path.join('..data', 'a.yaml'), path.join(directory, 'a.yaml'))
  const mirror = follow(source())
  await eventually(() => expect([...mirror.records.keys()]).toEqual(['Service shop/one']))
  write('..v2/a.yaml', text(service('two', 2)))
  symlinkSync('..v2', path.join(directory, '..data_tmp'))
  renameSync(path.join(directory, '..data_tmp'), path.join(directory, '..data'))
  await eventually(() => expect([...mirror.records.keys()]).toEqual(['Service shop/two']))
})

test('a file that is replaced by a rename is read again, one that is named too', async () => {
  const { write, source } = files()
  const file = write('a.yaml', text(service('one', 1)))
  const mirror = follow(source(file))
  await eventually(() => expect(mirror.synced).toHaveLength(4))
  const other = write('new.tmp', text(service('two', 2)))
  renameSync(other, file)
  await eventually(() => expect([...mirror.records.keys()]).toEqual(['Service shop/two']))
  unlinkSync(file)
  await eventually(() => expect(mirror.records.size).toBe(0))
})

test('links that go in circles end somewhere', async () => {
  const { write, source, directory } = files()
  write('sub/a.yaml', text(service('one', 1)))
  symlinkSync('..', path.join(directory, 'sub', 'up'))
  expect(keysOf(await source().readOnce())).toEqual(['Service shop/one'])
})

test('what the sink throws ends the source', async () => {
  const { write, source } = files()
  write('a.yaml', text(service('one', 1)))
  const failure = new Error('the model broke')
  const sink = (): void => {
    throw failure
  }
  await expect(source().start(sink, new AbortController().signal)).rejects.toBe(failure)
})
