// Who may import whom (design §5), which room each package has, and what every source file keeps to.
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { describe, expect, it } from 'vitest'
import { version } from '../src/version.ts'

const root = join(import.meta.dirname, '..')

interface Import {
  readonly from: string
  readonly isType: boolean
}

interface Source {
  /** Below `src/`. */
  readonly path: string
  readonly text: string
  /** Without comments and string contents that are no module names. */
  readonly imports: readonly Import[]
}

/** Module names of static imports, re-exports and dynamic imports; own modules as paths below `src/`. */
function importsOf(path: string, text: string): Import[] {
  const found: Import[] = []
  const statement =
    /^(?:import|export)\s+(type\s)?(?:[^'";]*?\sfrom\s+)?'([^']+)'|\bimport\(\s*'([^']+)'\s*\)|\brequire\(\s*'([^']+)'\s*\)/gm
  for (const [, type, named, dynamic, required] of text.matchAll(statement)) {
    const name = named ?? dynamic ?? required ?? ''
    found.push({ from: name.startsWith('.') ? normalize(join(dirname(path), name)) : name, isType: type !== undefined })
  }
  return found
}

const sources: readonly Source[] = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .filter(path => path.endsWith('.ts'))
  .map(path => {
    const text = readFileSync(join(root, 'src', path), 'utf8')
    return { path, text, imports: importsOf(path, text) }
  })

const isOwn = ({ from }: Import): boolean => from.endsWith('.ts')

/** The parts of the house; the backends' folders are rooms of their own, `backend/backend.ts` one too. */
function roomOf(path: string): string {
  const [first = '', second = '', ...rest] = path.split('/')
  if (first === 'backend' && rest.length > 0) return `backend/${second}`
  return first === 'backend' || second === '' ? path : first
}

const contract = 'backend/backend.ts'
/** What all backends make of a traced packet. */
const outcome = 'backend/outcome.ts'
/** What the backends that write by the iptables programs share: chains and jumps, reading, planning, walking them. */
const xtables = 'backend/xtables'
const usersOfXtables = ['backend/iptables', 'backend/ipvs']
const pureFoundations = ['net', 'model', 'policy']

/** Rooms that files of a room may import besides their own; undefined: any. */
function allowedFor(room: string): readonly string[] | undefined {
  if (room === contract) return pureFoundations
  if (room === outcome) return [...pureFoundations, contract]
  if (room === 'backend/registry.ts') return [...backendRooms, contract, 'net']
  if (room === xtables) return [...pureFoundations, contract, outcome]
  if (backendRooms.includes(room)) {
    return [...pureFoundations, contract, outcome, ...(usersOfXtables.includes(room) ? [xtables] : [])]
  }
  switch (room) {
    case 'net':
    case 'version.ts':
      return []
    case 'model':
    case 'kernel':
    case 'config':
      return ['net']
    case 'policy':
    case 'api':
      return ['model', 'net']
    case 'conntrack':
      return ['net', 'policy']
    case 'takeover':
      return [...pureFoundations, contract, 'kernel', xtables, 'backend/ipvs']
    case 'doctor':
      return [...pureFoundations, contract, 'kernel', 'config', 'observe', xtables, 'takeover']
    case 'sync':
      return [...pureFoundations, contract]
    case 'health':
    case 'observe':
      return ['model', 'net', 'version.ts']
    case 'commands':
    case 'main.ts':
      return undefined
    default:
      throw new Error(`src/${room} is in none of the rooms of design §4`)
  }
}

/** The backends, each in a room of its own. */
const backendRooms = [...new Set(sources.map(({ path }) => roomOf(path)))].filter(
  room => /^backend\/[^.]+$/.test(room) && room !== xtables,
)

/** Files of a backend, or of what backends share, that reach the kernel, by name. */
const kernelFacing = [
  'read.ts',
  'commit.ts',
  'drain.ts',
  'retire.ts',
  'look.ts',
  'programs.ts',
  'netlink.ts',
  'records.ts',
]
/** What nf_tables is made of, as values: no bytes, and nothing that is done. Backends compile to it. */
const kernelValues = ['kernel/netlink/nft-objects.ts']
/** Files that hand the means of starting programs on without using them: they may name its type, and nothing else. */
const handsOn = ['tools.ts', 'index.ts', 'registry.ts']

function mayImportKernel(path: string, { from, isType }: Import): boolean {
  const file = path.slice(path.lastIndexOf('/') + 1)
  if (!path.startsWith('backend/')) return false
  return kernelValues.includes(from) || kernelFacing.includes(file) || (handsOn.includes(file) && isType)
}

function violations({ path, imports }: Source): string[] {
  const room = roomOf(path)
  const allowed = allowedFor(room)
  return imports.filter(isOwn).flatMap(item => {
    const target = roomOf(item.from)
    if (target === room || allowed === undefined || allowed.includes(target)) return []
    if (target === 'kernel' && mayImportKernel(path, item)) return []
    return [`src/${path} imports src/${item.from}`]
  })
}

it('sees the imports', () => {
  expect(sources.length).toBeGreaterThan(60)
  for (const { text, imports } of sources) {
    const dynamic = text.match(/\bawait import\('/g)?.length ?? 0
    expect(imports.length).toBe((text.match(/^import\b|^export .*\bfrom '/gm)?.length ?? 0) + dynamic)
  }
  const wanted = sources.find(({ path }) => path === 'sync/wanted.ts')
  expect(wanted?.imports).toContainEqual({ from: 'policy/resolve.ts', isType: false })
  expect(wanted?.imports).toContainEqual({ from: 'policy/service-port.ts', isType: true })
  expect(importsOf('a/b.ts', "const x = await import('../kernel/exec.ts')\nexport { y } from './c.ts'\n")).toEqual([
    { from: 'kernel/exec.ts', isType: false },
    { from: 'a/c.ts', isType: false },
  ])
})

describe('the import rule', () => {
  it('is kept by every file', () => {
    expect(sources.flatMap(violations)).toEqual([])
  })

  it('would find what breaks it', () => {
    const offending = (path: string, from: string, isType = false): Source => ({
      path,
      text: '',
      imports: [{ from, isType }],
    })
    for (const source of [
      offending('net/ip.ts', 'model/records.ts', true),
      offending('model/store.ts', 'policy/resolve.ts'),
      offending('sync/syncer.ts', 'backend/iptables/plan.ts'),
      offending('sync/syncer.ts', 'kernel/exec.ts', true),
      offending('api/decode.ts', 'config/types.ts'),
      offending('backend/iptables/compile.ts', 'kernel/exec.ts', true),
      offending('backend/iptables/index.ts', 'kernel/exec.ts'),
      offending('backend/iptables/compile.ts', 'sync/program.ts'),
      offending('backend/iptables/trace.ts', 'backend/nftables/walk.ts'),
      offending('backend/nftables/trace.ts', 'backend/xtables/walk.ts'),
      offending('backend/xtables/plan.ts', 'backend/iptables/names.ts', true),
      offending('backend/xtables/plan.ts', 'kernel/exec.ts', true),
      offending('backend/xtables/tools.ts', 'kernel/exec.ts'),
      offending('backend/registry.ts', 'backend/xtables/tools.ts'),
      offending('sync/syncer.ts', 'backend/xtables/plan.ts'),
      offending('api/source.ts', 'commands/input.ts'),
      offending('observe/log.ts', 'kernel/host.ts'),
    ]) {
      expect(violations(source)).toHaveLength(1)
    }
    for (const source of [
      offending('backend/iptables/trace.ts', 'backend/xtables/walk.ts'),
      offending('backend/xtables/tools.ts', 'kernel/exec.ts', true),
      offending('backend/xtables/commit.ts', 'kernel/exec.ts'),
    ]) {
      expect(violations(source)).toEqual([])
    }
  })

  it('lets nobody but the program import the subcommands, and nobody the program', () => {
    const importers = (room: string) =>
      sources.filter(({ path, imports }) => roomOf(path) !== room && imports.some(({ from }) => roomOf(from) === room))
    expect(importers('commands').map(({ path }) => path)).toEqual(['main.ts'])
    expect(importers('main.ts')).toEqual([])
  })

  it('has no backend that imports another', () => {
    for (const { path, imports } of sources) {
      const own = roomOf(path)
      if (!backendRooms.includes(own)) continue
      const others = imports.map(({ from }) => roomOf(from)).filter(room => backendRooms.includes(room) && room !== own)
      expect(others).toEqual([])
    }
    expect(backendRooms).toContain('backend/iptables')
    expect(backendRooms).not.toContain(xtables)
  })

  it('lets health and observe see types of the model alone', () => {
    for (const { path, imports } of sources) {
      if (!['health', 'observe'].includes(roomOf(path))) continue
      expect(imports.filter(({ from, isType }) => roomOf(from) === 'model' && !isType)).toEqual([])
    }
  })
})

describe('packages', () => {
  const rooms: Readonly<Record<string, RegExp>> = {
    '@kubernetes/client-node': /^api\/connection\.ts$/,
    execa: /^kernel\//,
    'p-queue': /^sync\//,
    pino: /^observe\//,
    'prom-client': /^observe\//,
    'js-yaml': /^(?:api|config)\//,
    koffi: /^kernel\/netlink\//,
  }
  const packageName = (from: string): string =>
    from
      .split('/')
      .slice(0, from.startsWith('@') ? 2 : 1)
      .join('/')

  it('are imported in their room only', () => {
    const strays = sources.flatMap(({ path, imports }) =>
      imports
        .filter(item => !isOwn(item) && !item.from.startsWith('node:'))
        .filter(({ from }) => rooms[packageName(from)]?.test(path) !== true)
        .map(({ from }) => `src/${path} imports ${from}`),
    )
    expect(strays).toEqual([])
  })

  it('of the program are those with a room', () => {
    const manifest: Record<'dependencies' | 'optionalDependencies', Record<string, string>> = JSON.parse(
      readFileSync(join(root, 'package.json'), 'utf8'),
    )
    const optional = Object.keys(manifest.optionalDependencies).filter(name => !name.startsWith('node-linux-'))
    expect([...Object.keys(manifest.dependencies), ...optional].sort()).toEqual(Object.keys(rooms).sort())
  })
})

/** Files that work on what they are handed, and do nothing else. Those of a backend that reach the kernel are none. */
const isPure = (path: string): boolean =>
  /^(?:net|model|policy|config|backend)\/|^sync\/(?:program|pace)\.ts$/.test(path) &&
  !(path.startsWith('backend/') && kernelFacing.some(file => path.endsWith(`/${file}`)))

describe("the machine's own modules", () => {
  const usersOf = (pattern: RegExp): string[] =>
    sources.filter(({ imports }) => imports.some(({ from }) => pattern.test(from))).map(({ path }) => path)

  it('that start programs or ask the machine are used in kernel/ only', () => {
    const users = usersOf(/^node:(?:child_process|os|dgram|cluster|worker_threads)$/)
    expect(users.filter(path => !path.startsWith('kernel/'))).toEqual([])
  })

  it('are not used by what is pure, but for hashing', () => {
    expect(usersOf(/^node:(?!crypto$)/).filter(isPure)).toEqual([])
  })
})

/** Source text without comments. */
const codeOf = (text: string): string => text.replaceAll(/\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/.*$/gm, '')

describe('every source file', () => {
  it('leaves the command line and the environment to main.ts and config/', () => {
    const users = sources.filter(({ text }) => /\bprocess\.(?:argv|env)\b/.test(codeOf(text))).map(({ path }) => path)
    expect(users.filter(path => path !== 'main.ts' && !path.startsWith('config/'))).toEqual([])
  })

  it('reads no clock and draws no chance where it is pure', () => {
    const users = sources.filter(
      ({ path, text }) =>
        isPure(path) &&
        /\b(?:Date\.now|new Date\(\)|performance\.now|Math\.random|setTimeout|process\.)/.test(codeOf(text)),
    )
    expect(users.map(({ path }) => path)).toEqual([])
  })

  it('begins with a comment that says what it is for', () => {
    expect(sources.filter(({ text }) => !/^\/\/ \S.{10,}/.test(text)).map(({ path }) => path)).toEqual([])
  })

  it('has no default export, and is small enough to know whole', () => {
    expect(sources.filter(({ text }) => /^export default/m.test(text)).map(({ path }) => path)).toEqual([])
    expect(sources.filter(({ text }) => text.split('\n').length > 420).map(({ path }) => path)).toEqual([])
  })
})

it('the version is that of the package', () => {
  const manifest: { version: string } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  expect(version).toBe(`v${manifest.version}`)
})
