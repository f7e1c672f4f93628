// How the kernel gives this program memory.

const setThpDisable = 41

/**
 * Takes memory in pages of 4 KiB even where the kernel would give 2 MiB at once (transparent_hugepage set to `always`, as on
 * Debian): what is freed of those in pieces stays with the program. prctl(PR_SET_THP_DISABLE), which programs that are started
 * inherit; they live for milliseconds. Does nothing without the package koffi.
 */
export async function useSmallPages(): Promise<void> {
  try {
    const { default: koffi } = await import('koffi')
    koffi.load(null).func('int prctl(int, ulong, ulong, ulong, ulong)')(setThpDisable, 1, 0, 0, 0)
  } catch {
    // Then it takes some megabytes more.
  }
}
