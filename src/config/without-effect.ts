// What was asked for and changes nothing, said once at the start.
import { type FieldPath, fields, protobuf, type Settings } from './fields.ts'

/** Gates that kube-proxy 1.36 and 1.37 know, and what they are when not set (`kube-proxy.md` §9.5). */
const gateDefaults: Readonly<Record<string, boolean>> = {
  NFTablesProxyMode: true,
  MultiCIDRServiceAllocator: true,
  PreferSameTrafficDistribution: true,
  AllowServiceExternalIPs: true,
  ComponentFlagz: true,
  ComponentStatusz: true,
  ContextualLogging: true,
  LoggingBetaOptions: true,
  LoggingAlphaOptions: false,
  NativeHistograms: false,
  KubeProxyIPVS: true,
  NFTablesNetlink: true,
  KubeProxyNFTablesLocalhostNodePorts: false,
}

/**
 * One sentence for each reason why fields that were set to something other than the default change nothing. Fields at
 * their default say nothing, so that a configuration written out in full does not either.
 */
export function withoutEffect(settings: Settings): string[] {
  const byReason = new Map<string, string[]>()
  for (const path of settings.paths()) {
    for (const [name, reason] of idle(settings, path)) {
      const names = byReason.get(reason)
      if (names === undefined) byReason.set(reason, [name])
      else names.push(name)
    }
  }
  return [...byReason].map(([reason, names]) => `without effect, because ${reason}: ${names.join(', ')}`)
}

function idle(settings: Settings, path: FieldPath): [name: string, reason: string][] {
  const origin = settings.originOf(path)
  if (path === 'featureGates') {
    return Object.entries(settings.valueOf('featureGates'))
      .filter(([gate, on]) => gate !== 'AllowServiceExternalIPs' && gateDefaults[gate] !== on)
      .map(([gate, on]) => [`${origin} ${gate}=${on}`, 'this version has no such feature gate'])
  }
  if (path === 'clientConnection.contentType' && isSpoken(settings.valueOf(path))) return []
  // Nothing is served, which is what was asked for.
  if (settings.get(path) === 'disabled') return []
  if (isDefault(settings, path)) return []
  const { modes, withoutEffect: reason } = fields[path]
  const mode = settings.valueOf('mode')
  if (modes?.includes(mode) === false) return [[origin, `the mode is ${mode}`]]
  return reason === undefined ? [] : [[origin, reason]]
}

const isSpoken = (contentType: string): boolean => contentType === protobuf || contentType === 'application/json'

function isDefault<P extends FieldPath>(settings: Settings, path: P): boolean {
  const { type, fallback, kubeProxyDefault } = fields[path]
  const text = JSON.stringify(type.write(settings.valueOf(path)))
  if (text === JSON.stringify(type.write(fallback))) return true
  return kubeProxyDefault !== undefined && text === JSON.stringify(type.write(kubeProxyDefault))
}
