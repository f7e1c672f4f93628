// The program ip of iproute2 6.1: batches that add and remove dummy devices, their addresses and local routes, and the listing
// of those.
import { bitsOf, type Family, familyOf, type IP, parseIP } from '../../../src/net/ip.ts'
import type { ToolResult } from '../strict-iptables/strict-iptables.ts'
import { type Device, DeviceRefused, type Devices, scopeOf } from './devices.ts'
import { type LocalRoutes, localProtocol, RouteRefused } from './routes.ts'
import type { StepGuard } from './steps.ts'

/** What of a kernel ip is for. */
export interface IpKernel {
  readonly devices: Devices
  readonly routes: LocalRoutes
}

/** ip itself ends, without naming the line. */
class ProgramEnds extends Error {
  readonly exitCode: number
  constructor(message: string, exitCode = 1) {
    super(message)
    this.exitCode = exitCode
  }
}

/** A refusal of the kernel, which ip passes on. */
const isRefused = (error: unknown): error is DeviceRefused | RouteRefused =>
  error instanceof DeviceRefused || error instanceof RouteRefused

const unknown = (words: readonly string[]): string => `the strict ip does not know: ${words.join(' ')}`

const failed = (exitCode: number, stderr: string): ToolResult => ({ exitCode, stdout: '', stderr: `${stderr}\n` })

/** Runs ip. What came before a line that failed stays. */
export function ip(words: readonly string[], input: string, kernel: IpKernel, guard: StepGuard): ToolResult {
  if (words.length === 1 && (words[0] === '-V' || words[0] === '-Version'))
    return { exitCode: 0, stdout: 'ip utility, iproute2-6.1.0, libbpf 1.1.2\n', stderr: '' }
  if (words.join(' ') === '-batch -') return batch(input, kernel, guard)
  if (words[0] === 'link' || (['addr', 'route'].includes(words[0] ?? '') && words[1] !== 'show'))
    return direct(words, kernel, guard)
  return (
    show(words, kernel.devices) ??
    showLink(words, kernel.devices) ??
    showRoutes(words, kernel.routes) ??
    failed(255, unknown(words))
  )
}

/** One command on ip's own command line: there the kernel's refusals have an exit code of their own. */
function direct(words: readonly string[], kernel: IpKernel, guard: StepGuard): ToolResult {
  try {
    const step = stepOf(words, kernel)
    guard(step)
    return { exitCode: 0, stdout: '', stderr: '' }
  } catch (error) {
    if (error instanceof ProgramEnds) return failed(error.exitCode, error.message)
    if (isRefused(error)) return failed(/^(?:RTNETLINK|Error)/.test(error.message) ? 2 : 1, error.message)
    throw error
  }
}

function batch(input: string, kernel: IpKernel, guard: StepGuard): ToolResult {
  let number = 0
  for (const line of input.split('\n')) {
    number++
    const words = (line.split('#')[0] ?? '').split(/[ \t\r]+/).filter(word => word !== '')
    if (words.length === 0) continue
    try {
      const step = stepOf(words, kernel)
      guard(step)
    } catch (error) {
      if (error instanceof ProgramEnds) return failed(error.exitCode, error.message)
      if (isRefused(error)) return failed(1, `${error.message}\nCommand failed -:${number}`)
      throw error
    }
  }
  return { exitCode: 0, stdout: '', stderr: '' }
}

function stepOf(words: readonly string[], { devices, routes }: IpKernel): () => void {
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
    const { address, device } = readAddress(rest)
    return () => (verb === 'add' ? devices.addAddress(device, address) : devices.removeAddress(device, address))
  }
  if (object === 'route') {
    const [type, prefix = '', ...more] = rest
    if ((verb !== 'append' && verb !== 'del') || type !== 'local' || more.join(' ') !== routeEnd)
      throw new ProgramEnds(unknown(words), 255)
    const address = readPrefix(prefix)
    return () => (verb === 'append' ? routes.append(address) : routes.remove(address))
  }
  throw new DeviceRefused(`Object "${object}" is unknown, try "ip help".`)
}

/** What every line about a route ends with. */
const routeEnd = `dev lo table local proto ${localProtocol} metric ${localProtocol}`

function readAddress(words: readonly string[]): { address: IP; device: string } {
  const [text = '', keyword, device, junk] = words
  const address = readPrefix(text)
  if (keyword !== undefined && keyword !== 'dev')
    throw new ProgramEnds(`Error: either "local" is duplicate, or "${keyword}" is a garbage.`, 255)
  if (keyword === undefined) throw new DeviceRefused('Not enough information: "dev" argument is required.')
  if (device === undefined) throw new ProgramEnds('Command line is not complete. Try option "help"', 255)
  if (junk !== undefined) throw new ProgramEnds(`Error: either "local" is duplicate, or "${junk}" is a garbage.`, 255)
  return { address, device }
}

/** A single address; `expected` is what ip says that it wants. */
function readPrefix(text: string, expected: 'any valid' | 'inet' | 'inet6' = 'any valid'): IP {
  const [host = '', prefix] = text.split('/')
  const address = parseIP(host)
  const octets = /^(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){3}$/
  const isPlain = address !== undefined && (host.includes(':') ? familyOf(address) === 'IPv6' : octets.test(host))
  const isWanted = isPlain && (expected === 'any valid' || expected === (host.includes(':') ? 'inet6' : 'inet'))
  if (!isWanted || !(prefix === undefined || (/^\d+$/.test(prefix) && Number(prefix) <= bitsOf(familyOf(address)))))
    throw new ProgramEnds(`Error: ${expected} prefix is expected rather than "${text}".`)
  // A wider prefix makes a route, and ip warns of one that is missing.
  if (prefix !== `${bitsOf(familyOf(address))}`)
    throw new ProgramEnds(`the strict ip knows only addresses with /32 or /128, not "${text}"`, 255)
  return address
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

/** `-4|-6 route show table local proto 112 [exact PREFIX]`. Undefined for anything else. */
function showRoutes(words: readonly string[], routes: LocalRoutes): ToolResult | undefined {
  const [option, ...rest] = words
  const isExact = rest.at(-2) === 'exact'
  const asked = isExact ? rest.slice(0, -2) : rest
  if ((option !== '-4' && option !== '-6') || asked.join(' ') !== `route show table local proto ${localProtocol}`)
    return undefined
  try {
    const family = option === '-4' ? 'IPv4' : 'IPv6'
    const only = isExact ? readPrefix(rest.at(-1) ?? '', option === '-4' ? 'inet' : 'inet6') : undefined
    const shown = only === undefined ? routes.all(family) : routes.has(only) ? [only] : []
    const end =
      option === '-4' ? `dev lo scope host metric ${localProtocol} ` : `dev lo metric ${localProtocol} pref medium`
    return { exitCode: 0, stdout: shown.map(address => `local ${address} ${end}\n`).join(''), stderr: '' }
  } catch (error) {
    if (error instanceof ProgramEnds) return failed(error.exitCode, error.message)
    throw error
  }
}

/** As it is while the device is down, or has no neighbours to ask: no address is tentative. */
function linesOf({ index, name, addresses }: Device, families: readonly Family[]): string[] {
  return addresses
    .filter(address => families.includes(familyOf(address)))
    .map(address => {
      const isIPv4 = familyOf(address) === 'IPv4'
      const place = `${isIPv4 ? 'inet' : 'inet6'} ${address}/${isIPv4 ? 32 : 128} scope ${scopeOf(address)} ${isIPv4 ? name : ''}`
      return `${index}: ${name}    ${place}\\       valid_lft forever preferred_lft forever\n`
    })
}
