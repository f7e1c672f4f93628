// The programs that write rules fail for a while: inside the sandbox a script is mounted over the real one, so that the
// daemon, whose search path is its own, meets it too.
import type { ProxyMode } from '../../src/config/types.ts'
import type { Variant } from '../daemon/kernel-node.ts'
import type { Random } from '../differential/random.ts'

export interface ToolFault {
  readonly name: string
  /** One of the names it goes by; what is replaced is the file behind them. */
  readonly tool: string
  /** Of the name it was called by and its arguments, a pattern of the shell's: which calls fail. */
  readonly calls: string
  /** What a failing call does, as shell commands; `real` is the program itself. */
  readonly instead: string
}

const locked = 'Another app is currently holding the xtables lock'

/** As failures happen in life: before anything was done, after everything was done, in the middle, or late. */
const ways = (message: string, status: number): readonly (readonly [name: string, instead: string])[] => [
  ['fails', `cat >/dev/null; echo '${message}' >&2; exit ${status}`],
  ['writes, then fails', `real "$@"; echo '${message}' >&2; exit ${status}`],
  ['is killed', 'kill -KILL $$'],
  ['is slow', 'sleep 1; real "$@"; exit $?'],
  ['is denied', "cat >/dev/null; echo 'Operation not permitted' >&2; exit 1"],
]

/** A program of this mode that fails in one of these ways. */
export function randomToolFault(random: Random, mode: ProxyMode, variant: Variant): ToolFault {
  const xtables = { tool: `iptables-${variant}`, message: locked, status: 4 }
  const nft = {
    tool: 'nft',
    message: 'netlink: Error: Could not process rule: Cannot allocate memory',
    status: 1,
  }
  const candidates = {
    iptables: [
      { ...xtables, calls: '*-restore*' },
      { ...xtables, calls: '*-save*' },
    ],
    nftables: [
      { ...nft, calls: '*" -f "*' },
      { ...nft, calls: '*" list "*' },
    ],
    ipvs: [
      { ...xtables, calls: '*-restore*' },
      {
        tool: 'ipset',
        message: 'Kernel error received: Resource temporarily unavailable',
        status: 1,
        calls: '*',
      },
      { tool: 'ipvsadm', message: 'Memory allocation problem', status: 1, calls: '*' },
    ],
  }
  const { tool, message, status, calls } = random.pick(candidates[mode])
  const [way, instead] = random.pick(ways(message, status))
  return {
    name: `${tool} ${calls.replace(/[*" ]/g, '')} ${way}`.replace(/ +/, ' '),
    tool,
    calls,
    instead,
  }
}

/** The script. `copy` is a copy of the real program; multi-call programs go by the name they are called by. */
export const faultScript = ({ calls, instead }: ToolFault, copy: string): string => `#!/bin/bash
real() { (exec -a "$name" ${copy} "$@"); }
name=\${0##*/}
case "$name $* " in
  ${calls}) ${instead} ;;
esac
exec -a "$name" ${copy} "$@"
`
