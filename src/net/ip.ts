// IP addresses and CIDRs as values: parsed once, canonical text ever after. No Kubernetes in here.

declare const ipBrand: unique symbol

/** Canonical text of an address: dotted decimal, or RFC 5952 for IPv6. Two equal addresses have equal text. */
export type IP = string & { readonly [ipBrand]: true }

/** Address family, under the names Kubernetes uses. */
export type Family = 'IPv4' | 'IPv6'

/** A CIDR with its host bits cleared. */
export interface CIDR {
  readonly address: IP
  readonly prefix: number
}

/** Family of a canonical address. */
export const familyOf = (ip: IP): Family => (ip.includes(':') ? 'IPv6' : 'IPv4')

/** Number of bits of an address of this family. */
export const bitsOf = (family: Family): number => (family === 'IPv4' ? 32 : 128)

/**
 * Parses an address as Kubernetes' legacy parser does: leading zeros in IPv4 octets are decimal (`010.0.0.1` is
 * `10.0.0.1`), an IPv4-mapped IPv6 address is IPv4, zones are refused. Returns undefined for anything else.
 */
export function parseIP(text: string): IP | undefined {
  if (text.includes(':')) {
    const groups = parseGroups(text)
    if (groups === undefined) return undefined
    if (groups.slice(0, 5).every(g => g === 0) && groups[5] === 0xffff) {
      const [high = 0, low = 0] = groups.slice(6)
      return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}` as IP
    }
    return formatGroups(groups)
  }
  const octets = parseOctets(text)
  return octets === undefined ? undefined : (octets.join('.') as IP)
}

/** Parses `address/prefix`, clearing host bits. Returns undefined if either part is not well formed. */
export function parseCIDR(text: string): CIDR | undefined {
  const slash = text.indexOf('/')
  if (slash < 0) return undefined
  const ip = parseIP(text.slice(0, slash))
  const digits = text.slice(slash + 1)
  if (ip === undefined || !/^\d{1,3}$/.test(digits)) return undefined
  // An IPv4-mapped CIDR has no IPv4 prefix length of its own: refused rather than guessed.
  if (familyOf(ip) === 'IPv4' && text.slice(0, slash).includes(':')) return undefined
  const prefix = Number(digits)
  const bits = bitsOf(familyOf(ip))
  if (prefix > bits) return undefined
  return { address: maskIP(ip, prefix), prefix }
}

/** Text of a CIDR, `10.0.0.0/8`. */
export const formatCIDR = (cidr: CIDR): string => `${cidr.address}/${cidr.prefix}`

/** The one-address CIDR of an IP. */
export const hostCIDR = (ip: IP): CIDR => ({ address: ip, prefix: bitsOf(familyOf(ip)) })

/** True if the CIDR holds the address; always false across families. */
export function cidrContains(cidr: CIDR, ip: IP): boolean {
  return familyOf(cidr.address) === familyOf(ip) && maskIP(ip, cidr.prefix) === cidr.address
}

/** The address in hexadecimal, 8 digits (IPv4) or 32 (IPv6), so that text order is address order. */
export function ipToHex(ip: IP): string {
  if (familyOf(ip) === 'IPv4') {
    let out = ''
    for (const octet of ip.split('.')) out += Number(octet).toString(16).padStart(2, '0')
    return out
  }
  let out = ''
  for (const group of parseGroups(ip) ?? []) out += group.toString(16).padStart(4, '0')
  return out
}

/** The address of 8 or 32 hexadecimal digits; the inverse of `ipToHex`. */
export function ipFromHex(hex: string): IP {
  if (hex.length === 8) {
    const octets: number[] = []
    for (let i = 0; i < 8; i += 2) octets.push(Number.parseInt(hex.slice(i, i + 2), 16))
    return octets.join('.') as IP
  }
  const groups: number[] = []
  for (let i = 0; i < 32; i += 4) groups.push(Number.parseInt(hex.slice(i, i + 4), 16))
  return formatGroups(groups)
}

/** Writes an address in network order, 4 or 16 bytes from `at`. */
export function putIP(bytes: Uint8Array, at: number, ip: IP): void {
  if (ip.includes(':')) {
    const hex = ipToHex(ip)
    for (let i = 0; i < 16; i++) bytes[at + i] = Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16)
    return
  }
  // Letter by letter: a first load has 100,000 of them.
  let place = at
  let octet = 0
  for (let i = 0; i < ip.length; i++) {
    const code = ip.charCodeAt(i)
    if (code === 46) {
      bytes[place++] = octet
      octet = 0
    } else {
      octet = octet * 10 + code - 48
    }
  }
  bytes[place] = octet
}

/** `address:port`, with IPv6 in brackets. */
export const formatAddressPort = (ip: IP, port: number): string =>
  ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`

/** Addresses in one text, for keeping many of them: a text of its own costs 24 bytes more an address. */
export const joinIPs = (ips: readonly IP[]): string => ips.join(' ')

/** The addresses of a text that `joinIPs` made. */
export const splitIPs = (text: string): IP[] => (text === '' ? [] : (text.split(' ') as IP[]))

function maskIP(ip: IP, prefix: number): IP {
  const hex = ipToHex(ip)
  const whole = prefix >> 2
  const rest = prefix & 3
  if (whole === hex.length) return ip
  const digit = Number.parseInt(hex[whole] ?? '0', 16) & (0xf << (4 - rest)) & 0xf
  return ipFromHex(hex.slice(0, whole) + digit.toString(16) + '0'.repeat(hex.length - whole - 1))
}

function parseOctets(text: string): number[] | undefined {
  const parts = text.split('.')
  if (parts.length !== 4) return undefined
  const octets: number[] = []
  for (const part of parts) {
    if (!/^\d{1,16}$/.test(part)) return undefined
    const value = Number(part)
    if (value > 255) return undefined
    octets.push(value)
  }
  return octets
}

function parseGroups(text: string): number[] | undefined {
  const halves = text.split('::')
  if (halves.length > 2) return undefined
  const [head = '', tail] = halves
  const first = parseHalf(head, tail === undefined)
  if (first === undefined) return undefined
  if (tail === undefined) return first.length === 8 ? first : undefined
  const last = parseHalf(tail, true)
  if (last === undefined || first.length + last.length > 7) return undefined
  return [...first, ...new Array<number>(8 - first.length - last.length).fill(0), ...last]
}

function parseHalf(text: string, mayEndInIPv4: boolean): number[] | undefined {
  if (text === '') return []
  const parts = text.split(':')
  const groups: number[] = []
  for (const [index, part] of parts.entries()) {
    if (mayEndInIPv4 && index === parts.length - 1 && part.includes('.')) {
      const octets = parseOctets(part)
      if (octets === undefined) return undefined
      const [a = 0, b = 0, c = 0, d = 0] = octets
      groups.push((a << 8) | b, (c << 8) | d)
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(part)) return undefined
      groups.push(Number.parseInt(part, 16))
    }
  }
  return groups
}

/** RFC 5952: lower case, no leading zeros, the first longest run of two or more zero groups shortened. */
function formatGroups(groups: readonly number[]): IP {
  let best = -1
  let bestLength = 1
  for (let i = 0; i < 8; i++) {
    let j = i
    while (j < 8 && groups[j] === 0) j++
    if (j - i > bestLength) {
      best = i
      bestLength = j - i
    }
    if (j > i) i = j
  }
  const hex = groups.map(g => g.toString(16))
  if (best < 0) return hex.join(':') as IP
  return `${hex.slice(0, best).join(':')}::${hex.slice(best + bestLength).join(':')}` as IP
}
