// What a process and everything it started cost, as /proc tells it.
import { readdirSync, readFileSync } from 'node:fs'

/** One process, as its files in /proc tell it. */
export interface ProcessUsage {
  readonly pid: number
  readonly parent: number
  /** Milliseconds of CPU, user and system, in steps of 10. */
  readonly cpuMs: number
  /** Of children that have ended and were waited for. */
  readonly childCpuMs: number
  readonly rssKiB: number
  /** Its greatest resident size ever (VmHWM). */
  readonly peakKiB: number
}

/** Of a whole process tree. */
export interface Usage {
  /** Milliseconds of CPU, user and system, of all processes of the tree, those that have ended included. */
  readonly cpuMs: number
  /** Of these, in other processes than the first. */
  readonly childCpuMs: number
  /** Of these, in processes that have ended. */
  readonly endedCpuMs: number
  /** Sums over the processes that live: pages they share count for each; what tools had that have ended is left out. */
  readonly rssKiB: number
  readonly peakKiB: number
}

/** Reads the texts of /proc/PID/stat and /proc/PID/status. Times are in ticks of 10 ms (USER_HZ, in proc(5)). */
export function parseProcess(pid: number, stat: string, status: string): ProcessUsage {
  // The second field is the program's name in parentheses and may hold anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const [user = 0, system = 0, childUser = 0, childSystem = 0] = fields.slice(11, 15).map(Number)
  // A process that has ended and was not waited for has no memory, and no line that says so.
  const kiB = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0)
  return {
    pid,
    parent: Number(fields[1]),
    cpuMs: (user + system) * 10,
    childCpuMs: (childUser + childSystem) * 10,
    rssKiB: kiB('VmRSS'),
    peakKiB: kiB('VmHWM'),
  }
}

/** The process and its descendants among these, the process first. Throws an Error if it is not there. */
export function treeOf(root: number, all: readonly ProcessUsage[]): ProcessUsage[] {
  const first = all.find(({ pid }) => pid === root)
  if (first === undefined) throw new Error(`process ${root} is gone`)
  const found = [first]
  for (const { pid } of found) found.push(...all.filter(({ parent }) => parent === pid))
  return found
}

/** Adds a process tree up. A child that ends moves its time to its parent, so the sum never shrinks. */
export function sum(tree: readonly ProcessUsage[]): Usage {
  const total = (pick: (usage: ProcessUsage) => number): number => tree.reduce((so, usage) => so + pick(usage), 0)
  const cpuMs = total(usage => usage.cpuMs + usage.childCpuMs)
  return {
    cpuMs,
    childCpuMs: cpuMs - (tree[0]?.cpuMs ?? 0),
    endedCpuMs: total(usage => usage.childCpuMs),
    rssKiB: total(usage => usage.rssKiB),
    peakKiB: total(usage => usage.peakKiB),
  }
}

/** All processes that can be seen. */
function processes(): ProcessUsage[] {
  return readdirSync('/proc').flatMap(name => {
    if (!/^\d+$/.test(name)) return []
    try {
      return [
        parseProcess(
          Number(name),
          readFileSync(`/proc/${name}/stat`, 'utf8'),
          readFileSync(`/proc/${name}/status`, 'utf8'),
        ),
      ]
    } catch {
      // Gone since the listing.
      return []
    }
  })
}

/** What a process and its descendants have cost so far. Throws an Error if there is no such process. */
export const usageOf = (pid: number): Usage => sum(treeOf(pid, processes()))

/**
 * Milliseconds of CPU that the living threads of a process tree have had, to the nanosecond (/proc/PID/task/TID/schedstat);
 * undefined where the kernel does not count that (CONFIG_SCHED_INFO). For times too short for ticks.
 */
export function threadMs(pid: number): number | undefined {
  try {
    let nanoseconds = 0
    for (const process of treeOf(pid, processes())) {
      const folder = `/proc/${process.pid}/task`
      for (const thread of readdirSync(folder)) {
        nanoseconds += Number(readFileSync(`${folder}/${thread}/schedstat`, 'utf8').split(' ')[0])
      }
    }
    return nanoseconds / 1e6
  } catch {
    return undefined
  }
}
