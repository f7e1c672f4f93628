// What this machine's kernel is too old for.
import { release } from 'node:os'

const [major = 0, minor = 0] = release().split('.').map(Number)

/** Tables of nf_tables that outlive their owner: from Linux 6.9 on. */
export const hasPersist = major > 6 || (major === 6 && minor >= 9)
