// How hack/vm reads its command line and tells the virtual machine what to run; no machine is booted here.
import { execFileSync } from 'node:child_process'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  insideEnvironment,
  parseCommandLine,
  qemuArguments,
  quote,
  type Task,
  taskLine,
  UsageError,
} from '../../hack/vm.d/task.ts'

const task: Task = {
  command: ['echo', "it's"],
  cwd: '/a b',
  env: { PATH: '/bin' },
  kernel: '/k',
  initrd: '/i',
  modules: '/m',
  checkout: '/c',
  out: '/out,1',
  timeout: 5,
  verbose: false,
}

describe('the command line', () => {
  it('ends its options where the command begins', () => {
    expect(parseCommandLine(['--timeout', '7', '--out=x', '--verbose', 'ls', '--timeout', '8'])).toEqual({
      timeout: 7,
      out: 'x',
      verbose: true,
      command: ['ls', '--timeout', '8'],
    })
  })

  it('has a limit of 20 minutes unless told otherwise, and takes -- for the end of options', () => {
    expect(parseCommandLine(['--', '--odd'])).toEqual({
      timeout: 1200,
      out: undefined,
      verbose: false,
      command: ['--odd'],
    })
  })

  it.each([
    [['--timeout', '0', 'ls'], /--timeout 0 is not a whole number of seconds/],
    [['--timeout', '1.5', 'ls'], /--timeout 1\.5 is not/],
    [['--out'], /--out needs a value/],
    [['--verbose=yes', 'ls'], /no option --verbose=yes/],
    [['--nope', 'ls'], /no option --nope/],
    [['--verbose'], /no command/],
  ])('refuses %j', (words, message) => {
    expect(() => parseCommandLine(words)).toThrow(UsageError)
    expect(() => parseCommandLine(words)).toThrow(message)
  })
})

describe('what goes in', () => {
  it('reaches the shell unchanged, whatever the words are', () => {
    const word = fc.string({ unit: 'binary' }).filter(text => !text.includes('\0') && text.isWellFormed())
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 5 }), words => {
        const seen = execFileSync('sh', ['-c', `printf '%s\\0' ${words.map(quote).join(' ')}`], { encoding: 'utf8' })
        expect(seen.split('\0').slice(0, -1)).toEqual(words)
      }),
      { numRuns: 50 },
    )
  })

  it('is one line of two words', () => {
    const words = taskLine(task).split(/[ \n]/)
    expect(words).toHaveLength(3)
    const [settings, script] = words.map(text => Buffer.from(text, 'base64').toString())
    expect(settings).toBe("modules='/m'\ncheckout='/c'\ncwd='/a b'\nout='/out,1'\n")
    expect(script).toBe(`export PATH='/bin'\ncd '/a b' || exit 126\nexec 'echo' 'it'\\''s'\n`)
  })

  it("keeps the caller's PATH and adds where root's programs are", () => {
    const env = insideEnvironment({ PATH: '/mine:/usr/bin', SECRET: 'x', TZ: 'UTC' })
    expect(env.PATH).toBe('/mine:/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/bin')
    expect(env).toMatchObject({ HOME: '/root', TZ: 'UTC' })
    expect(env).not.toHaveProperty('SECRET')
  })
})

describe("QEMU's command line", () => {
  it('shares the root read-only, and --out, commas and all, for writing', () => {
    const shares = qemuArguments(task).filter(word => word.startsWith('local,'))
    expect(shares).toEqual([
      'local,id=host,path=/,security_model=none,multidevs=remap,readonly=on',
      'local,id=out,path=/out,,1,security_model=none,multidevs=remap',
    ])
  })

  it('has no network device', () => {
    expect(qemuArguments(task).join(' ')).not.toMatch(/-netdev|-nic|virtio-net/)
  })
})
