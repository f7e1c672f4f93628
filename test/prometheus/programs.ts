// Debian's Prometheus for tests: found on the search path, or unpacked once into the cache, never installed.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const root = resolve(import.meta.dirname, '../..')

export interface Programs {
  readonly prometheus: string
  readonly promtool: string
}

/** Where the programs are, or a sentence why they cannot be had here. */
export function findPrometheus(): Programs | string {
  const script = '. "$root/hack/lib.sh"; ensure_prometheus && printf %s "$prometheus"'
  const { status, stdout, stderr } = spawnSync('bash', ['-c', script], {
    encoding: 'utf8',
    env: { ...process.env, root },
  })
  if (status !== 0) return `prometheus cannot be had: ${stderr.trim()}`
  return { prometheus: join(stdout, 'prometheus'), promtool: join(stdout, 'promtool') }
}

/** A series as a query answers it: its labels and its newest value. */
export interface Series {
  readonly metric: Readonly<Record<string, string>>
  readonly value: readonly [time: number, value: string]
}

export interface RuleHealth {
  readonly name: string
  readonly health: string
  readonly lastError?: string
}

export interface RunningPrometheus {
  /** Series that an instant query answers. Throws an Error with Prometheus' own words where it refuses the query. */
  query(expression: string): Promise<readonly Series[]>
  /** The alerting rules, and whether they can be evaluated. */
  rules(): Promise<readonly RuleHealth[]>
  stop(): Promise<void>
}

/** Starts a Prometheus on a free port of loopback, with its data in a directory; resolves when it is ready. */
export async function startPrometheus(
  program: string,
  configFile: string,
  dataDirectory: string,
): Promise<RunningPrometheus> {
  const child = spawn(
    program,
    [`--config.file=${configFile}`, `--storage.tsdb.path=${dataDirectory}`, '--web.listen-address=127.0.0.1:0'],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  )
  const address = await listeningAddress(child)
  // It listens before it has read its data, and answers 503 until then.
  for (let tries = 0; tries < 300; tries++) {
    const { status } = await fetch(`http://${address}/-/ready`)
    if (status === 200) break
    await sleep(100)
  }
  const get = async <T>(path: string): Promise<T> => {
    const response = await fetch(`http://${address}/api/v1/${path}`)
    const answer = (await response.json()) as { readonly status: string; readonly error?: string; readonly data: T }
    if (answer.status !== 'success') throw new Error(answer.error)
    return answer.data
  }
  return {
    async query(expression) {
      const { result } = await get<{ readonly result: readonly Series[] }>(
        `query?query=${encodeURIComponent(expression)}`,
      )
      return result
    },
    async rules() {
      const { groups } = await get<{ readonly groups: readonly { readonly rules: readonly RuleHealth[] }[] }>('rules')
      return groups.flatMap(group => group.rules)
    },
    stop: () => stopped(child),
  }
}

function listeningAddress(child: ChildProcess): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  let said = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said += text
    const address = /msg="Listening on" .*?address=(\S+)/.exec(said)?.[1]
    if (address !== undefined) resolve(address)
  })
  child.once('error', reject)
  child.once('exit', () => reject(new Error(`prometheus ended: ${said}`)))
  return promise
}

function stopped(child: ChildProcess): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  child.once('exit', () => resolve())
  child.kill('SIGTERM')
  return promise
}
