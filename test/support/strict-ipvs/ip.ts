// The program ip of iproute2 6.1: batches that add and remove dummy devices and their addresses, and the listing of those.
import { bitsOf, type Family, familyOf, type IP, parseIP } from '../../../src/net/ip.ts'
import type { ToolResult } from '../strict-iptables/strict-iptables.ts'
import { type Device, DeviceRefused, type Devices, scopeOf } from './devices.ts'
import type { StepGuard } from './steps.ts'

/** ip itself ends, without naming the line. */
class ProgramEnds extends Error {
  readonly exitCode: number
  constructor(message: string, exitCode = 1) {
    super(message)
    this.exitCode = exitCode
  }
}

const failed = (exitCode: number, stderr: string): ToolResult => ({ exitCode, stdout: '', stderr: `${stderr}\n` })

/** Runs ip. What came before a line that failed stays. */
export function ip(words: readonly string[], input: string, devices: Devices, guard: StepGuard): ToolResult {
  if (words.length === 1 && (words[0] === '-V' || words[0] === '-Version'))
    return { exitCode: 0, stdout: 'ip utility, iproute2-6.1.0, libbpf 1.1.2\n', stderr: '' }
  if (words.join(' ') === '-batch -') return batch(input, devices, guard)
  if (words[0] === 'link' || (words[0] === 'addr' && words[1] !== 'show')) return direct(words, devices, guard)
  return (
    show(words, devices) ?? showLink(words, devices) ?? failed(255, `the strict ip does not know: ${words.join(' ')}`)
  )
}

/** One command on ip's own command line: there the kernel's refusals have an exit code of their own. */
function direct(words: readonly string[], devices: Devices, guard: StepGuard): ToolResult {
  try {
    const step = stepOf(words, devices)
    guard(step)
    return { exitCode: 0, stdout: '', stderr: '' }
  } catch (error) {
    if (error instanceof ProgramEnds) return failed(error.exitCode, error.message)
    if (error instanceof DeviceRefused) return failed(/^(?:RTNETLINK|Error)/.test(error.message) ? 2 : 1, error.message)
    throw error
  }
}

function batch(input: string, devices: Devices, guard: StepGuard): ToolResult {
  let number = 0
  for (const line of input.split('\n')) {
    number++
    const words = (line.split('#')[0] ?? '').split(/[ \t\r]+/).filter(word => word !== '')
    if (words.length === 0) continue
    try {
      const step = stepOf(words, devices)
      guard(step)
    } catch (error) {
      if (error instanceof ProgramEnds) return failed(error.exitCode, error.message)
      if (error instanceof DeviceRefused) return failed(1, `${error.message}\nCommand failed -:${number}`)
      throw error
    }
  }
  return { exitCode: 0, stdout: '', stderr: '' }
}

function stepOf(words: readonly string[], devices: Devices): () => void {
  const [object = '', verb = '', ...rest] = words
  if (object === 'link' && verb === 'add') {
    const [name = '', keyword, type] = rest
    if (keyword !== 'type' || type !== 'dummy' || rest.length !== 3)
      throw new ProgramEnds(`the strict ip knows only: link add NAME type dummy`, 255)
    // IFNAMSIZ is 16 with the end of the text.
    if (name.length > 15) throw new DeviceRefused('Error: Attribute failed policy validation.')
    return () => devices.add(name)
  }
  if (object === 'link' && verb === 'del') {
    const [name = '', ...more] = rest[0] === 'dev' ? rest.slice(1) : rest
    if (more.length > 0) throw new ProgramEnds(`the strict ip knows only: link del NAME`, 255)
    return () => devices.remove(name)
  }
  if (object === 'addr' && (verb === 'add' || verb === 'del')) {
    const isDeprecated = rest.slice(-2).join(' ') === 'preferred_lft 0'
    const { address, device } = readAddress(isDeprecated ? rest.slice(0, -2) : rest)
    return () =>
      verb === 'add' ? devices.addAddress(device, address, isDeprecated) : devices.removeAddress(device, address)
  }
  throw new DeviceRefused(`Object "${object}" is unknown, try "ip help".`)
}

function readAddress(words: readonly string[]): { address: IP; device: string } {
  const [text = '', keyword, device, junk] = words
  const [host = '', prefix] = text.split('/')
  const address = parseIP(host)
  const octets = /^(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){3}$/
  const isPlain = address !== undefined && (host.includes(':') ? familyOf(address) === 'IPv6' : octets.test(host))
  if (!isPlain || !(prefix === undefined || (/^\d+$/.test(prefix) && Number(prefix) <= bitsOf(familyOf(address)))))
    throw new ProgramEnds(`Error: any valid prefix is expected rather than "${text}".`)
  // A wider prefix makes a route, and ip warns of one that is missing.
  if (prefix !== `${bitsOf(familyOf(address))}`)
    throw new ProgramEnds(`the strict ip knows only addresses with /32 or /128, not "${text}"`, 255)
  if (keyword !== undefined && keyword !== 'dev')
    throw new ProgramEnds(`Error: either "local" is duplicate, or "${keyword}" is a garbage.`, 255)
  if (keyword === undefined) throw new DeviceRefused('Not enough information: "dev" argument is required.')
  if (device === undefined) throw new ProgramEnds('Command line is not complete. Try option "help"', 255)
  if (junk !== undefined) throw new ProgramEnds(`Error: either "local" is duplicate, or "${junk}" is a garbage.`, 255)
  return { address, device }
}

/** `[-4|-6] -o addr show [dev NAME]`, the options in any order. Undefined for anything else. */
function show(words: readonly string[], devices: Devices): ToolResult | undefined {
  const start = words.findIndex(word => !word.startsWith('-'))
  const options = start === -1 ? words : words.slice(0, start)
  const [object, verb, keyword, name, ...more] = start === -1 ? [] : words.slice(start)
  const isKnown = options.every(word => ['-4', '-6', '-o', '-oneline'].includes(word))
  const isOneLine = options.includes('-o') || options.includes('-oneline')
  if (!isKnown || !isOneLine || (object !== 'addr' && object !== 'address') || verb !== 'show' || more.length > 0)
    return undefined
  if (keyword !== undefined && (keyword !== 'dev' || name === undefined)) return undefined
  const device = name === undefined ? undefined : devices.get(name)
  if (name !== undefined && device === undefined) return failed(1, `Device "${name}" does not exist.`)
  const families: readonly Family[] = options.includes('-4')
    ? ['IPv4']
    : options.includes('-6')
      ? ['IPv6']
      : ['IPv4', 'IPv6']
  const shown = device === undefined ? devices.all() : [device]
  return { exitCode: 0, stdout: shown.flatMap(one => linesOf(one, families)).join(''), stderr: '' }
}

/** `-o link show dev NAME`. Undefined for anything else. */
function showLink(words: readonly string[], devices: Devices): ToolResult | undefined {
  const [name = ''] = words.slice(-1)
  if (words.join(' ') !== `-o link show dev ${name}`) return undefined
  const device = devices.get(name)
  if (device === undefined) return failed(1, `Device "${name}" does not exist.`)
  const address = `02:00:00:00:00:${device.index.toString(16).padStart(2, '0')}`
  const state = '<BROADCAST,NOARP> mtu 1500 qdisc noop state DOWN mode DEFAULT group default qlen 1000'
  const stdout = `${device.index}: ${name}: ${state}\\    link/ether ${address} brd ff:ff:ff:ff:ff:ff\n`
  return { exitCode: 0, stdout, stderr: '' }
}

/** As it is while the device is down, or has no neighbours to ask: no address is tentative. */
function linesOf({ index, name, addresses, deprecated }: Device, families: readonly Family[]): string[] {
  return addresses
    .filter(address => families.includes(familyOf(address)))
    .map(address => {
      const isIPv4 = familyOf(address) === 'IPv4'
      const isDeprecated = deprecated.has(address)
      const place = `${isIPv4 ? 'inet' : 'inet6'} ${address}/${isIPv4 ? 32 : 128} scope ${scopeOf(address)} ${isDeprecated ? 'deprecated ' : ''}${isIPv4 ? name : ''}`
      return `${index}: ${name}    ${place}\\       valid_lft forever preferred_lft ${isDeprecated && !isIPv4 ? '0sec' : 'forever'}\n`
    })
}
