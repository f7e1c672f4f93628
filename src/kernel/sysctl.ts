// Kernel settings under /proc/sys.
import { readFile, writeFile } from 'node:fs/promises'

const path = (name: string): string => `/proc/sys/${name.replaceAll('.', '/')}`

/** The setting's text, trimmed; undefined when the kernel has no such setting. */
export async function readSysctl(name: string): Promise<string | undefined> {
  try {
    return (await readFile(path(name), 'utf8')).trim()
  } catch {
    return undefined
  }
}

/**
 * Writes a setting unless it has that value already. Throws an Error that names the setting when it cannot be written,
 * as in a container whose /proc/sys is read-only.
 */
export async function ensureSysctl(name: string, value: string): Promise<void> {
  const current = await readSysctl(name)
  if (current === value) return
  try {
    await writeFile(path(name), value)
  } catch (cause) {
    const held = current === undefined ? 'the kernel has no such setting' : `it is ${current}`
    throw new Error(`sysctl ${name} cannot be set to ${value} (${held}): ${(cause as Error).message}`, { cause })
  }
}
