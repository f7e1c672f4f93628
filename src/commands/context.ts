// What every subcommand is handed.
import type { Netlink } from '../backend/registry.ts'
import type { CommandLine } from '../config/flags.ts'
import type { Configuration } from '../config/types.ts'
import type { Exec } from '../kernel/exec.ts'
import type { Logger } from '../observe/log.ts'
import type { NetlinkTold } from './netlink.ts'

export interface CommandContext {
  readonly commandLine: CommandLine
  readonly configuration: Configuration
  /** What the user should know of the configuration, a sentence each. */
  readonly notices: readonly string[]
  readonly log: Logger
  readonly exec: Exec
  /** Means to speak to the kernel without programs; left out: programs do it all. */
  readonly netlink?: (told?: NetlinkTold) => Netlink
  /** Aborted by SIGTERM and SIGINT. */
  readonly signal: AbortSignal
  /** Writes to stdout; returns exit status 0. */
  readonly print: (text: string) => number
}
