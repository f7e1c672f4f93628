// How soon the kernel ends this process when memory runs out.
import { writeFile } from 'node:fs/promises'

/** Sets it, -1000 (never) to 1000 (first). Throws an Error that says so when it may not be lowered. */
export async function setOomScore(score: number): Promise<void> {
  try {
    await writeFile('/proc/self/oom_score_adj', String(score))
  } catch (cause) {
    throw new Error(`the OOM score cannot be set to ${score}: ${(cause as Error).message}`, { cause })
  }
}
