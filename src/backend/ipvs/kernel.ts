// What IPVS mode asks of the kernel, whichever way it asks: by programs (`programs.ts`) or by netlink (`netlink.ts`).
import type { Family, IP } from '../../net/ip.ts'
import { CommitError, type Look } from '../backend.ts'
import type { Command } from './commands.ts'
import { addressKey, memberKey, serverKey, setKey, type VirtualServer } from './names.ts'
import type { HeldServer, HeldSet, Loads } from './parse.ts'

/** A command that the kernel did not carry out. */
export interface Refused<C extends Command = Command> {
  readonly command: C
  /** Something is there already, or is not there, or is in use; or the kernel does not do such a thing. */
  readonly why: 'exists' | 'missing' | 'busy' | 'invalid'
  readonly message: string
}

/** Seconds; 0 leaves one as it is. */
export interface Timeouts {
  readonly tcp: number
  readonly tcpFin: number
  readonly udp: number
}

/** All methods throw CommitError: `denied`, `unsupported` or `transient`. */
export interface IpvsKernel {
  /** Our sets. */
  sets(family: Family, signal: AbortSignal): Promise<HeldSet[]>
  /** All virtual servers of a family, ours or not. */
  servers(family: Family, signal: AbortSignal): Promise<HeldServer[]>
  /** Addresses that are the machine's by routes of ours. */
  addresses(family: Family, signal: AbortSignal): Promise<IP[]>
  hasDevice(signal: AbortSignal): Promise<boolean>
  /** Addresses that kube-proxy has on the device; none if there is no such device. */
  proxyAddresses(family: Family, signal: AbortSignal): Promise<IP[]>
  /** True if packets for the address are delivered on this machine; by programs only our own routes are known. */
  isLocal(address: IP, signal: AbortSignal): Promise<boolean>
  hasServer(server: VirtualServer, family: Family, signal: AbortSignal): Promise<boolean>
  /** How many virtual servers `loads` is best asked for at once: it answers at once, in a fraction of a millisecond, or by one listing. */
  readonly loadsPerTurn: number
  /** What the real servers of these have to do; as `loadOf` reads it. A virtual server that is gone is not in it. */
  loads(servers: readonly VirtualServer[], family: Family, signal?: AbortSignal): Promise<Loads>
  /** Carries commands out in their order. Returns those that the kernel refused; later ones may not have been tried then. */
  change(commands: readonly Command[], family: Family, signal?: AbortSignal): Promise<readonly Refused[]>
  /**
   * A digest of our sets, of the family's virtual servers (those of others included, which only costs a comparison when they
   * change), of our routes, and of whether the device is there. Real servers of weight 0 are left out: they are being drained
   * and go by themselves.
   */
  fingerprint(family: Family, signal: AbortSignal): Promise<Look>
  /** Has the kernel's module loaded, without which its settings do not exist. */
  load(): Promise<void>
  changeTimeouts(timeouts: Timeouts): Promise<void>
  close(): Promise<void>
}

/**
 * What refused commands mean for the syncer; undefined when the kernel holds what they were for anyway. `refused` names the
 * objects at fault, and goes before all else: what follows from it is put right with it.
 */
export function refusalOf(refused: readonly Refused[]): CommitError | undefined {
  for (const kind of ['refused', 'unsupported', 'transient', 'stale'] as const) {
    const meant = refused.filter(one => meaningOf(one) === kind)
    const [first] = meant
    if (first === undefined) continue
    const keys = kind === 'refused' ? [...new Set(meant.flatMap(({ command }) => keyOf(command) ?? []))] : []
    return new CommitError(kind, first.message, { keys })
  }
  return undefined
}

type Meaning = 'met' | 'stale' | 'transient' | 'unsupported' | 'refused'

function meaningOf({ command, why }: Refused): Meaning {
  const isAmiss = why === 'exists' || why === 'missing'
  switch (command.kind) {
    case 'create-set':
      return why === 'invalid' ? 'unsupported' : 'stale'
    case 'destroy-set':
    case 'delete-member':
      return why === 'busy' ? 'transient' : 'stale'
    case 'add-device':
      // Both address families share the device: the other one made it first.
      return why === 'exists' ? 'met' : isAmiss ? 'stale' : 'refused'
    case 'add-address':
      // Somebody has the very same route: packets arrive.
      return why === 'exists' ? 'met' : isAmiss ? 'stale' : 'refused'
    case 'delete-address':
    case 'delete-server':
    case 'delete-real':
      return why === 'missing' ? 'met' : 'stale'
    case 'edit-real':
      // What is to be drained may be gone.
      if (command.weight === 0) return why === 'missing' ? 'met' : 'stale'
      return isAmiss ? 'stale' : 'refused'
    default:
      // What is there already, or is not there, is not as we believed.
      return isAmiss ? 'stale' : 'refused'
  }
}

/** The object that a command is for. */
function keyOf(command: Command): string | undefined {
  switch (command.kind) {
    case 'create-set':
      return setKey(command.set)
    case 'add-member':
      return memberKey(command.set, command.element)
    case 'add-address':
      return addressKey(command.address)
    default:
      return 'server' in command ? serverKey(command.server) : undefined
  }
}
