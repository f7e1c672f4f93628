// What checks are handed to look at a machine with: nothing here or in the checks can change it.
import type { ProxyMode } from '../config/types.ts'
import type { Exec } from '../kernel/exec.ts'
import type { Process } from '../kernel/processes.ts'
import type { Family } from '../net/ip.ts'
import type { DaemonAnswer } from '../observe/status.ts'

/** A file's text, or why there is none. */
export type FileText =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'absent' }
  | { readonly kind: 'unreadable'; readonly why: string }

/** What the node is meant to be. */
export interface Wanted {
  readonly mode: ProxyMode
  readonly families: readonly Family[]
  readonly localhostNodePorts: boolean
  /** A Linux bridge is how pods are told: packets between its ports must pass the rules. */
  readonly usesBridge: boolean
}

export interface Look {
  readonly wanted: Wanted
  /** The kernel's release. */
  readonly release: string
  readonly file: (path: string) => Promise<FileText>
  /** Names in a directory; undefined if it cannot be read. */
  readonly names: (path: string) => Promise<readonly string[] | undefined>
  /** A file's inode; undefined where there is no such file. */
  readonly inode: (path: string) => Promise<number | undefined>
  /** Given commands that only look. */
  readonly exec: Exec
  readonly processes: (names: readonly string[]) => Promise<readonly Process[]>
  readonly sleep: (ms: number) => Promise<void>
  readonly daemon: () => Promise<DaemonAnswer>
  /** True if something listens on this TCP port of the loopback device. */
  readonly listens: (port: number) => Promise<boolean>
  /** Why the kernel cannot be spoken to directly, as the optional package koffi lets us; undefined where it can. */
  readonly netlink: () => Promise<string | undefined>
  /** The mode's own rules for one Service as one input of one program; undefined where that is not installed. */
  readonly sample: (family: Family) => Promise<Sample | undefined>
}

/** A call that is made in a network namespace of its own. */
export interface Sample {
  readonly command: string
  readonly args: readonly string[]
  readonly input: string
}

/** A number in a file; undefined if there is none. */
export async function numberIn(look: Look, path: string): Promise<number | undefined> {
  const file = await look.file(path)
  if (file.kind !== 'text') return undefined
  const value = Number(file.text.trim())
  return Number.isFinite(value) ? value : undefined
}

export const sysctlPath = (name: string): string => `/proc/sys/${name.replaceAll('.', '/')}`

/** A kernel setting by its name with dots; undefined where the kernel has none. */
export const sysctl = (look: Look, name: string): Promise<number | undefined> => numberIn(look, sysctlPath(name))
