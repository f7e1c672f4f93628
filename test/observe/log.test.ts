// Log lines as people and programs read them, and saying things once.
import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { makeLogger, Once } from '../../src/observe/log.ts'

function logged(format: 'text' | 'json', verbosity = 0): { log: ReturnType<typeof makeLogger>; lines: () => string[] } {
  const destination = new PassThrough()
  const log = makeLogger({ format, verbosity, destination })
  return { log, lines: () => (destination.read()?.toString() ?? '').split('\n').filter((line: string) => line !== '') }
}

describe('a logger', () => {
  it('writes text for people', () => {
    const { log, lines } = logged('text')
    log.warn({ object: 'Service shop/web', count: 2, list: ['a'] }, 'problem in an object')
    expect(lines()).toEqual([
      expect.stringMatching(/^\d{4}-\S+Z WARN problem in an object object="Service shop\/web" count=2 list=\["a"\]$/),
    ])
  })

  it('writes one JSON document a line', () => {
    const { log, lines } = logged('json')
    log.info({ family: 'IPv4' }, 'synced')
    expect(lines().map(line => JSON.parse(line))).toEqual([
      expect.objectContaining({ level: 'info', family: 'IPv4', msg: 'synced' }),
    ])
  })

  it('keeps details for those who ask', () => {
    const quiet = logged('text', 2)
    quiet.log.debug('detail')
    expect(quiet.lines()).toEqual([])
    const verbose = logged('text', 4)
    verbose.log.debug('detail')
    expect(verbose.lines()).toHaveLength(1)
  })
})

describe('saying once', () => {
  it('repeats what is new, forgotten or an hour old', () => {
    let now = 0
    const once = new Once(() => now)
    expect(once.first('a', 'x')).toBe(true)
    expect(once.first('a', 'x')).toBe(false)
    expect(once.first('a', 'y')).toBe(true)
    expect(once.first('b', 'y')).toBe(true)
    once.forget('b')
    expect(once.first('b', 'y')).toBe(true)
    now = 3_600_000
    expect(once.first('a', 'y')).toBe(true)
    expect(once.first('a', 'y')).toBe(false)
  })
})
