// Sharing the event loop: long runs of small work are cut into slices, so that nothing else waits for long.
import { setImmediate as nextTurn } from 'node:timers/promises'

export interface Pacer {
  /** Returns undefined while the slice lasts; a promise of the next turn of the event loop when it is used up. */
  pause(): Promise<void> | undefined
}

/** 10 ms: a heartbeat, a health check or another reflector waits for at most three of them. */
const defaultSliceMs = 10

/** Starts a pacer whose slices last this many milliseconds. */
export function createPacer(sliceMs = defaultSliceMs): Pacer {
  let began = performance.now()
  return {
    pause() {
      if (performance.now() - began < sliceMs) return undefined
      return nextTurn().then(() => {
        began = performance.now()
      })
    },
  }
}
