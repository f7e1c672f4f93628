// Who else runs on this machine, as far as /proc shows it.
import { readdir, readFile, readlink } from 'node:fs/promises'

export interface Process {
  readonly pid: number
  /** The program's name as the kernel keeps it: at most 15 characters. */
  readonly name: string
}

/**
 * Other processes of these names whose network is ours, in /proc as this process sees it: a container without the host's
 * PID namespace sees its own only. A script run by node is none, whatever it is called: our own image answers to
 * kube-proxy's path. Never throws.
 */
export async function processesNamed(names: readonly string[]): Promise<readonly Process[]> {
  const own = await linkOf('self', 'ns/net')
  const found: Process[] = []
  for (const entry of await readdir('/proc').catch(() => [])) {
    const pid = Number(entry)
    if (!Number.isInteger(pid) || pid === process.pid) continue
    const name = (await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')).trim()
    if (!names.includes(name)) continue
    const network = await linkOf(entry, 'ns/net')
    // What may not be looked at counts: rather one too many than one overlooked.
    if (network !== undefined && own !== undefined && network !== own) continue
    if (/\/node$/.test((await linkOf(entry, 'exe')) ?? '')) continue
    found.push({ pid, name })
  }
  return found
}

const linkOf = (pid: string, name: string): Promise<string | undefined> =>
  readlink(`/proc/${pid}/${name}`).catch(() => undefined)
