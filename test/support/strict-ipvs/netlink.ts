// The strict IPVS machine by netlink: the same kernel, asked without programs. Each change is told of by itself.
import { lineOf, type SetCommand } from '../../../src/backend/ipvs/commands.ts'
import type { IpvsNetlink } from '../../../src/backend/ipvs/netlink.ts'
import { elementText, setOperation } from '../../../src/backend/ipvs/records.ts'
import type { IpsetConnection, IpsetOperation } from '../../../src/kernel/netlink/ipset.ts'
import { encodeIpsetElement, type IpsetHeader, ipsetRefusal } from '../../../src/kernel/netlink/ipset-messages.ts'
import type { IpvsConnection, IpvsOperation } from '../../../src/kernel/netlink/ipvs.ts'
import {
  familyOfService,
  type IpvsDestination,
  type IpvsService,
  type IpvsServiceId,
  ipvsServiceFlag,
  wholeNetmask,
} from '../../../src/kernel/netlink/ipvs-messages.ts'
import { type Ack, nested, readAttributes, readNfgen } from '../../../src/kernel/netlink/message.ts'
import type { RouteConnection, RouteOperation } from '../../../src/kernel/netlink/route.ts'
import { familyOf } from '../../../src/net/ip.ts'
import { DeviceRefused, type Devices } from './devices.ts'
import { readElement } from './elements.ts'
import { type LocalRoutes, localProtocol, RouteRefused } from './routes.ts'
import { SetRefused, type Sets, setTypes } from './sets.ts'
import {
  type Destination,
  type ServerId,
  ServerRefused,
  type ServerSettings,
  type VirtualServers,
} from './virtual-servers.ts'

/** What of a machine is spoken to. */
export interface StrictKernel {
  readonly sets: Sets
  readonly servers: VirtualServers
  readonly devices: Devices
  readonly routes: LocalRoutes
  /** Runs a change; listeners are told, and it counts as a write. */
  change(work: () => void): void
}

type Operation = IpsetOperation | IpvsOperation | RouteOperation

export interface StrictNetlinkOptions {
  /** An errno for an operation that is to be refused whatever it is. */
  readonly refuse?: (operation: Operation) => number | undefined
}

const errno = { ENOENT: 2, ESRCH: 3, EEXIST: 17, ENODEV: 19, EINVAL: 22 } as const

/** Answers a turn later, as a kernel does that is asked on another thread. */
const later = (): Promise<void> => new Promise(next => setImmediate(next))

export function strictNetlink(
  kernel: StrictKernel,
  { refuse = () => undefined }: StrictNetlinkOptions = {},
): IpvsNetlink {
  const apply = async <O extends Operation>(
    operations: readonly O[],
    carryOut: (operation: O) => void,
    errnoOf: (error: unknown, operation: O) => number | undefined,
  ): Promise<Ack[]> => {
    await later()
    return operations.map(operation => {
      const asked = refuse(operation)
      if (asked !== undefined) return { errno: asked }
      let result = 0
      kernel.change(() => {
        try {
          carryOut(operation)
        } catch (error) {
          const known = errnoOf(error, operation)
          if (known === undefined) throw error
          result = known
        }
      })
      return { errno: result }
    })
  }
  return {
    sets: sets(kernel, operations => apply(operations, operation => changeSet(kernel.sets, operation), setErrno)),
    ipvs: ipvs(kernel, operations =>
      apply(operations, operation => changeServer(kernel.servers, operation), serverErrno),
    ),
    route: route(kernel, operations => apply(operations, operation => changeRoute(kernel, operation), routeErrno)),
  }
}

type Apply<O> = (operations: readonly O[]) => Promise<Ack[]>

function sets({ sets: held }: StrictKernel, apply: Apply<IpsetOperation>): IpsetConnection {
  return {
    apply,
    async list(name, visit) {
      await later()
      const spec = held.get(name)
      if (spec === undefined) return false
      const header: IpsetHeader = {
        ...spec,
        family: spec.family,
        maximum: spec.type === 'bitmap:port' ? undefined : spec.maxelem,
        ports: spec.type === 'bitmap:port' ? spec.range : undefined,
        timeout: undefined,
        counters: false,
        forceAdd: false,
      }
      const lines = held.save(name).split('\n').slice(1, -1)
      // Two messages, the second without a header.
      const half = lines.length >> 1
      visit({ name, header, elements: Buffer.concat(lines.slice(0, half).map(elementBytes)) })
      visit({ name, header: undefined, elements: Buffer.concat(lines.slice(half).map(elementBytes)) })
      return true
    },
    close: async () => undefined,
  }
}

/** IPSET_ATTR_DATA. */
const data = 7

/** An element of `ipset save` as the kernel would hand it over. */
function elementBytes(line: string): Buffer {
  const [, set = '', element = '', ...value] = line.split(' ')
  const command: SetCommand = { kind: 'add-member', set, element, value: value.join(' '), replace: false }
  const operation = setOperation(command)
  if (operation.kind !== 'add') throw new Error(lineOf(command, 'IPv4'))
  const message = encodeIpsetElement(set, operation.element)
  return nested(data, readAttributes(readNfgen(message).attributes).get(data) ?? Buffer.alloc(0))
}

function changeSet(held: Sets, operation: IpsetOperation): void {
  switch (operation.kind) {
    case 'create': {
      const { name, type, family, maximum, ports, comment, skbinfo } = operation.set
      const known = setTypes.find(one => one === type)
      if (known === undefined) throw new Error(`no such type of set: ${type}`)
      const of = family === undefined ? {} : { family }
      held.create({ name, type: known, ...of, comment, skbinfo, maxelem: maximum, hashsize: 1024, range: ports })
      break
    }
    case 'destroy':
      held.destroy(operation.name)
      break
    case 'add':
    case 'delete': {
      const { name, element } = operation
      const spec = held.get(name)
      if (spec === undefined) throw new SetRefused('The set with the given name does not exist')
      const { comment, mark } = element
      const extras = {
        ...(comment === undefined ? {} : { comment }),
        ...(mark === undefined ? {} : { mark: `0x${mark.value.toString(16)}` }),
      }
      const { element: read } = readElement(elementText(element), spec, extras)
      if (operation.kind === 'add') held.add(name, read, operation.replace)
      else held.remove(name, read)
    }
  }
}

function setErrno(error: unknown, { kind }: IpsetOperation): number | undefined {
  if (!(error instanceof SetRefused)) return undefined
  if (/does not exist/.test(error.message)) return errno.ENOENT
  if (/already exists/.test(error.message)) return errno.EEXIST
  if (/already added|not added/.test(error.message)) return ipsetRefusal.exists
  if (/in use/.test(error.message)) return ipsetRefusal.busy
  return kind === 'add' || kind === 'delete' ? 4352 : undefined
}

function serverId(id: IpvsServiceId): ServerId {
  return id.kind === 'mark' ? { kind: 'mark', mark: id.mark, family: id.family } : { ...id }
}

const schedule = [ipvsServiceFlag.schedule1, ipvsServiceFlag.schedule2, ipvsServiceFlag.schedule3]

function settings({ scheduler, flags, timeout }: IpvsService): ServerSettings {
  const set = ([1, 2, 3] as const).filter(number => (flags & (schedule[number - 1] ?? 0)) !== 0)
  return {
    scheduler,
    persistent: (flags & ipvsServiceFlag.persistent) === 0 ? undefined : timeout,
    onePacket: (flags & ipvsServiceFlag.onePacket) !== 0,
    flags: new Set(set),
  }
}

const forwarding = ['Masq', 'Route', 'Tunnel', 'Route'] as const

const destination = ({ address, port, forward, weight }: IpvsDestination): Destination => ({
  address,
  port,
  weight,
  forwarding: forwarding[forward] ?? 'Masq',
})

function ipvs({ servers }: StrictKernel, apply: Apply<IpvsOperation>): IpvsConnection {
  return {
    apply,
    isThere: async () => true,
    async services(visit) {
      await later()
      for (const { id, scheduler, persistent, onePacket, flags } of servers.list()) {
        const bits = [...flags].reduce((sum, flag) => sum | (schedule[flag - 1] ?? 0), 0)
        visit({
          id,
          scheduler,
          flags:
            bits |
            (persistent === undefined ? 0 : ipvsServiceFlag.persistent) |
            (onePacket ? ipvsServiceFlag.onePacket : 0),
          timeout: persistent ?? 0,
          netmask: wholeNetmask(familyOfService(id)),
        })
      }
    },
    async hasService(id) {
      await later()
      return servers.get(serverId(id)) !== undefined
    },
    async destinations(id) {
      await later()
      const real = servers.get(serverId(id))?.real.values() ?? []
      return [...real].map(({ forwarding: way, ...rest }) => ({
        ...rest,
        forward: way === 'Masq' ? 0 : way === 'Tunnel' ? 2 : 3,
        persistent: 0,
      }))
    },
    timeouts: async () => servers.timeouts,
    setTimeouts: async timeouts => servers.setTimeouts(timeouts),
    close: async () => undefined,
  }
}

function changeServer(servers: VirtualServers, operation: IpvsOperation): void {
  switch (operation.kind) {
    case 'add-service':
      servers.add(serverId(operation.service.id), settings(operation.service))
      break
    case 'edit-service':
      servers.edit(serverId(operation.service.id), settings(operation.service))
      break
    case 'delete-service':
      servers.remove(serverId(operation.id))
      break
    case 'add-destination':
      servers.addDestination(serverId(operation.id), destination(operation.destination))
      break
    case 'edit-destination':
      servers.editDestination(serverId(operation.id), destination(operation.destination))
      break
    case 'delete-destination':
      servers.removeDestination(serverId(operation.id), operation.destination)
  }
}

function serverErrno(error: unknown): number | undefined {
  if (!(error instanceof ServerRefused)) return undefined
  if (/already exists/.test(error.message)) return errno.EEXIST
  if (/No such service|Service not defined/.test(error.message)) return errno.ESRCH
  return /No such destination|Scheduler/.test(error.message) ? errno.ENOENT : errno.EINVAL
}

function route({ devices, routes }: StrictKernel, apply: Apply<RouteOperation>): RouteConnection {
  return {
    apply,
    async link(name) {
      await later()
      const device = devices.get(name)
      return device && { index: device.index, name }
    },
    async addresses(index, family, visit) {
      await later()
      for (const device of devices.all()) {
        if (index !== undefined && device.index !== index) continue
        for (const address of device.addresses) {
          if (familyOf(address) === family) visit({ index: device.index, address })
        }
      }
    },
    async locals(family, { protocol, metric }) {
      await later()
      return protocol === localProtocol && metric === localProtocol ? [...routes.all(family)] : []
    },
    async isLocal(address) {
      await later()
      return routes.has(address) || devices.all().some(({ addresses }) => addresses.includes(address))
    },
    close: async () => undefined,
  }
}

function changeRoute({ devices, routes }: StrictKernel, operation: RouteOperation): void {
  switch (operation.kind) {
    case 'add-link':
      devices.add(operation.name)
      break
    case 'delete-link':
      devices.remove(operation.name)
      break
    default: {
      const { kind, address, protocol, metric } = operation
      if (protocol !== localProtocol || metric !== localProtocol)
        throw new Error(`the strict kernel knows no routes of protocol ${protocol} and metric ${metric}`)
      if (kind === 'add-local') routes.append(address)
      else routes.remove(address)
    }
  }
}

function routeErrno(error: unknown): number | undefined {
  if (!(error instanceof RouteRefused || error instanceof DeviceRefused)) return undefined
  if (/File exists/.test(error.message)) return errno.EEXIST
  return error instanceof DeviceRefused ? errno.ENODEV : errno.ESRCH
}
