// What holds in the end: the file or the flags, by kube-proxy's precedence (`kube-proxy.md` §9.2), checked as a whole.
import { parseIP } from '../net/ip.ts'
import { configurationOf, problemsOf, type Source } from './build.ts'
import type { FieldPath, FieldValues, Settings } from './fields.ts'
import { readFile } from './file.ts'
import { flagNamed, spelling } from './flag-table.ts'
import type { CommandLine } from './flags.ts'
import { ConfigError, type Configuration } from './types.ts'
import { withoutEffect } from './without-effect.ts'

export interface Loaded {
  readonly configuration: Configuration
  /** What the user should know at the start, a sentence each: flags ignored, fields without effect. */
  readonly notices: readonly string[]
}

/**
 * The effective configuration of a command line. With `--config` the file holds, and of the flags only those that
 * kube-proxy lets stand beside it: the host name, logging, and all that are no field of the configuration.
 * @param readText reads a whole file; what it throws becomes a problem of the configuration.
 * @throws ConfigError naming every problem.
 */
export function load(commandLine: CommandLine, readText: (path: string) => string): Loaded {
  const path = commandLine.options.config ?? ''
  const loaded = path === '' ? fromFlags(commandLine) : fromFile(path, commandLine, readText)
  const inherited = [...commandLine.given.keys()].filter(flag => flag.group === 'ignored').map(spelling)
  if (inherited.length === 0) return loaded
  return {
    ...loaded,
    notices: [...loaded.notices, `without effect, because nothing reads it: ${inherited.join(', ')}`],
  }
}

function fromFile(path: string, commandLine: CommandLine, readText: (path: string) => string): Loaded {
  let text: string
  try {
    text = readText(path)
  } catch (error) {
    throw new ConfigError('--config', [`${path} cannot be read: ${error instanceof Error ? error.message : error}`])
  }
  const { settings, problems } = readFile(text)
  for (const field of commandLine.settings.paths()) overlay(field, commandLine.settings, settings)
  const ignored = [...commandLine.given.keys()].filter(flag => !flag.besideConfig).map(spelling)
  const notices =
    ignored.length === 0 ? [] : [`ignored, because --config is given: ${ignored.join(', ')}; set them in ${path}`]
  return finish(settings, 'file', problems, notices, `${path} cannot be used`)
}

/** Lets a flag win over the file where it may; the lists of vmodule are joined, the flag's first. */
function overlay<P extends FieldPath>(path: P, flags: Settings, file: Settings): void {
  const given: FieldValues[P] | undefined = flags.get(path)
  if (given === undefined) return
  if (path === 'logging.vmodule') {
    const joined = [...flags.valueOf('logging.vmodule'), ...file.valueOf('logging.vmodule')]
    file.set('logging.vmodule', joined, flags.originOf(path))
  } else if (path.startsWith('logging.') || (path === 'hostnameOverride' && given !== '')) {
    file.set(path, given, flags.originOf(path))
  }
}

function fromFlags(commandLine: CommandLine): Loaded {
  const settings = commandLine.settings.copy()
  const notices = commandLine.options.writeConfigTo === undefined ? deprecatedPorts(commandLine, settings) : []
  spread(settings)
  return finish(settings, 'flags', [], notices, 'the flags cannot be used')
}

function finish(
  settings: Settings,
  source: Source,
  found: readonly string[],
  notices: readonly string[],
  heading: string,
): Loaded {
  const problems = [...found, ...problemsOf(settings, source)]
  if (problems.length > 0) throw new ConfigError(heading, problems)
  return { configuration: configurationOf(settings, source), notices: [...notices, ...withoutEffect(settings)] }
}

/** In nftables mode the flags named after iptables speak for nftables, all but the one for the mark. */
function spread(settings: Settings): void {
  if (settings.valueOf('mode') !== 'nftables') return
  moveTo(settings, 'iptables.masqueradeAll', 'nftables.masqueradeAll')
  moveTo(settings, 'iptables.syncPeriod', 'nftables.syncPeriod')
  moveTo(settings, 'iptables.minSyncPeriod', 'nftables.minSyncPeriod')
}

function moveTo<P extends FieldPath>(settings: Settings, from: FieldPath & P, to: P): void {
  const value = settings.get(from)
  if (value === undefined) return
  settings.set(to, value, settings.originOf(from))
  settings.unset(from)
}

/**
 * `--healthz-port` and `--metrics-port`: 0 disables the server; any other port is for an address given without one. The
 * default addresses have theirs, so that the flag alone changes nothing, in kube-proxy as here.
 */
function deprecatedPorts({ options, given }: CommandLine, settings: Settings): string[] {
  const notices: string[] = []
  for (const [flagName, addressFlagName, path, port] of [
    ['healthz-port', 'healthz-bind-address', 'healthzBindAddress', options.healthzPort],
    ['metrics-port', 'metrics-bind-address', 'metricsBindAddress', options.metricsPort],
  ] as const) {
    if (port === undefined) continue
    const addressFlag = flagNamed(addressFlagName)
    const alone = parseIP((addressFlag === undefined ? undefined : given.get(addressFlag)) ?? '')
    if (port === 0) settings.set(path, 'disabled', `--${flagName}`)
    else if (alone !== undefined) settings.set(path, { address: alone, port }, `--${addressFlagName}`)
    notices.push(
      `--${flagName} is deprecated${port === 0 || alone !== undefined ? '' : ' and changes nothing here'}; use --${addressFlagName}`,
    )
  }
  return notices
}
