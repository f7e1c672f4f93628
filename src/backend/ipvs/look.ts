// A cheap look at what IPVS mode keeps in the kernel, for telling that nobody else has written there.
import { createHash } from 'node:crypto'
import type { Exec } from '../../kernel/exec.ts'
import type { Family } from '../../net/ip.ts'
import type { Look } from '../backend.ts'
import { setName, setRoles } from './names.ts'
import { failure, hasDevice, showRoutes } from './programs.ts'

const timeoutMs = 120_000
/** Milliseconds for each byte of the listings: a guess, as of a program that asks the kernel for each virtual server. */
const costOfByte = 1e-4

/**
 * A digest of our sets, of the family's virtual servers (those of others included, which only costs a comparison when they
 * change), of our routes, and of whether the device is there. Real servers of weight 0 are left out: they are being drained
 * and go by themselves.
 * Throws CommitError.
 */
export async function fingerprint(exec: Exec, family: Family, signal: AbortSignal): Promise<Look> {
  const hash = createHash('sha256')
  let bytes = 0
  const ask = async (command: string, args: readonly string[]): Promise<string> => {
    const result = await exec.run(command, args, { signal, timeoutMs })
    if (result.exitCode !== 0) throw failure(command, result)
    bytes += result.stdout.length
    return result.stdout
  }
  for (const part of ownMembers(await ask('ipset', ['save']), family)) hash.update(part, 'latin1')
  for (const part of serversOf(await ask('ipvsadm', ['-Sn']), family)) hash.update(part, 'latin1')
  hash.update(await ask('ip', showRoutes(family)), 'latin1')
  hash.update(`\n${await hasDevice(exec, signal)}`)
  return { digest: hash.digest('base64'), costMs: bytes * costOfByte }
}

/** Lines of `ipset save` that are about our sets. */
function* ownMembers(text: string, family: Family): Iterable<string> {
  const names = new Set(setRoles.map(role => setName(family, role)))
  for (const line of text.split('\n')) {
    const from = line.indexOf(' ') + 1
    const to = line.indexOf(' ', from)
    if (names.has(line.slice(from, to < 0 ? line.length : to))) yield `${line}\n`
  }
}

/** Lines of `ipvsadm -Sn` that are about one family. Those of real servers follow the one of their virtual server. */
function* serversOf(text: string, family: Family): Iterable<string> {
  let isOurs = false
  for (const line of text.split('\n')) {
    if (line.startsWith('-A ')) isOurs = (/^-A \S+ \[|^-A -f \d+ -6/.test(line) ? 'IPv6' : 'IPv4') === family
    if (isOurs && line !== '' && !(line.startsWith('-a ') && / -w 0\b/.test(line))) yield `${line}\n`
  }
}
