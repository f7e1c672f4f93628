// hack/vm itself, seen from outside: each test boots at least one virtual machine, so each looks at several things.
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { release, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const root = resolve(import.meta.dirname, '../..')
const tool = join(root, 'hack/vm')
const minutes = 60_000

interface Result {
  readonly status: number | null
  readonly stdout: Buffer
  readonly stderr: string
}

function start(words: readonly string[]): { child: ChildProcess; result: Promise<Result> } {
  const child = spawn(tool, words, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
  const stdout: Buffer[] = []
  let stderr = ''
  child.stdout?.on('data', (data: Buffer) => stdout.push(data))
  child.stderr?.on('data', (data: Buffer) => {
    stderr += data.toString()
  })
  const result = new Promise<Result>((done, fail) => {
    child.on('error', fail)
    child.on('close', status => done({ status, stdout: Buffer.concat(stdout), stderr }))
  })
  return { child, result }
}

const vm = (...words: string[]): Promise<Result> => start(words).result

/** The processes started by one process, and by those, with their names. */
function descendants(pid: number): { pid: number; name: string }[] {
  const all = readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .flatMap(name => {
      try {
        const [, comm = '', parent = ''] = /\((.*)\) \S+ (\d+)/.exec(readFileSync(`/proc/${name}/stat`, 'utf8')) ?? []
        return [{ pid: Number(name), name: comm, parent: Number(parent) }]
      } catch {
        return [] // It ended while we looked.
      }
    })
  const below = (parent: number): { pid: number; name: string }[] =>
    all.filter(one => one.parent === parent).flatMap(one => [one, ...below(one.pid)])
  return below(pid)
}

describe('hack/vm', () => {
  let out = ''
  beforeAll(async () => {
    out = mkdtempSync(join(tmpdir(), 'vm-out,'))
    // The first run may have to install QEMU and to fetch the kernel.
    const { status, stderr } = await vm('true')
    expect(stderr.includes('hack/vm:') ? stderr : '').toBe('')
    expect(status).toBe(0)
  }, 10 * minutes)
  afterAll(() => rmSync(out, { recursive: true, force: true }))

  it(
    "is root's on another kernel, with what the tests need, and leaves only what is in --out",
    async () => {
      const script = `
        set -e
        uname -r; id -u; pwd; ls package.json
        echo x >written-inside; mkdir "$1/d"; echo kept >"$1/d/file"
        modprobe ip_vs; ipvsadm -A -t 10.0.0.1:80 -s rr; ipvsadm -Sn
        sysctl -q -w net.ipv4.ip_forward=1; cat /proc/sys/net/ipv4/ip_forward
        ip netns add inner
        for variant in iptables-nft iptables-legacy ip6tables-nft ip6tables-legacy; do
          ip netns exec inner $variant -t nat -A OUTPUT -p tcp --dport 80 -j REDIRECT
          ip netns exec inner $variant-save -t nat 2>/dev/null | grep REDIRECT
        done
        ls -A /sys/class/net | tr '\\n' ' '
        echo complaint >/dev/stderr
        sleep 1000 &
        exit 7`
      const { status, stdout, stderr } = await vm('--out', out, 'sh', '-c', script, 'sh', out)
      const [kernel, ...lines] = stdout.toString().split('\n')
      expect(kernel).toMatch(/^\d+\.\d+.*-amd64$/)
      expect(kernel).not.toBe(release())
      const redirect = '-A OUTPUT -p tcp -m tcp --dport 80 -j REDIRECT'
      expect(lines.slice(0, 3)).toEqual(['0', root, 'package.json'])
      expect(lines[3]).toMatch(/^-A -t 10\.0\.0\.1:80 -s rr/)
      expect(lines.slice(4, 9)).toEqual(['1', redirect, redirect, redirect, redirect])
      expect(lines[9]?.trim()).toBe('lo')
      expect(stderr).toMatch(/^complaint$/m)
      expect(stderr).not.toMatch(/^\[ +\d+\.\d+\]/m)
      expect(status).toBe(7)
      expect(readFileSync(join(out, 'd/file'), 'utf8')).toBe('kept\n')
      expect(existsSync(join(root, 'written-inside'))).toBe(false)
    },
    5 * minutes,
  )

  it(
    'passes ten megabytes on whole and in order, from two machines at once',
    async () => {
      const size = 10_000_000
      const sha = (data: Buffer): string => createHash('sha256').update(data).digest('hex')
      const run = async (from: number): Promise<void> => {
        const { status, stdout } = await vm(
          'sh',
          '-c',
          `seq ${from} ${from + 1_500_000} | head -c ${size}; exit ${from}`,
        )
        const expected = Buffer.from(Array.from({ length: 1_500_001 }, (_, index) => `${from + index}\n`).join(''))
        expect(stdout.length).toBe(size)
        expect(sha(stdout)).toBe(sha(expected.subarray(0, size)))
        expect(status).toBe(from)
      }
      await Promise.all([run(1), run(2)])
    },
    5 * minutes,
  )

  it(
    'ends with status 124 when the time is up, and passes on what was written',
    async () => {
      const { status, stdout, stderr } = await vm('--timeout', '45', 'sh', '-c', 'echo early; sleep 1000')
      expect(stdout.toString()).toBe('early\n')
      expect(stderr).toContain('the command had not ended after 45 s')
      expect(status).toBe(124)
    },
    5 * minutes,
  )

  it(
    'ends with status 125 and the kernel log when the machine breaks',
    async () => {
      const { status, stderr } = await vm('sh', '-c', 'echo c >/proc/sysrq-trigger; sleep 1000')
      expect(stderr).toContain('the virtual machine broke: QEMU ended with status 0 while the command ran.')
      expect(stderr).toContain('Kernel panic - not syncing: sysrq triggered crash')
      expect(status).toBe(125)
    },
    5 * minutes,
  )

  it.each([
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ] as const)(
    'leaves no process behind after %s',
    async (signal, expected) => {
      const { child, result } = start(['sh', '-c', 'echo up; sleep 1000'])
      await new Promise(resolve => child.stdout?.once('data', resolve))
      const started = descendants(child.pid ?? 0)
      expect(started.map(one => one.name).filter(name => name.startsWith('qemu'))).toHaveLength(1)
      child.kill(signal)
      expect((await result).status).toBe(expected)
      expect(started.filter(one => existsSync(`/proc/${one.pid}`))).toEqual([])
    },
    5 * minutes,
  )

  it('refuses an option it does not know, with status 2', async () => {
    const { status, stderr } = await vm('--nope', 'true')
    expect(stderr).toContain('there is no option --nope')
    expect(status).toBe(2)
  }, 60_000)
})
