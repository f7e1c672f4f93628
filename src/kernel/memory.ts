// How the kernel gives this program memory.
import { loadLibc } from './netlink/libc.ts'

const setThpDisable = 41

/**
 * Takes memory in pages of 4 KiB even where the kernel would give 2 MiB at once (transparent_hugepage set to `always`, as on
 * Debian): what is freed of those in pieces stays with the program. prctl(PR_SET_THP_DISABLE), which programs that are started
 * inherit; they live for milliseconds. Without the package koffi nothing is done: some megabytes more are resident then.
 */
export async function useSmallPages(): Promise<void> {
  const libc = await loadLibc()
  if (typeof libc !== 'string') libc.prctl(setThpDisable, 1, 0, 0, 0)
}
