// Long work in slices: other work of the process has its turn in between.

/** Work that may be interrupted wherever it yields. */
export type Steps<T> = Generator<void, T>

/** A slice lasts this long, milliseconds: a health check or a watch waits for at most two or three. */
const sliceMs = 10

/** Does all of it at once. */
export function atOnce<T>(steps: Steps<T>): T {
  for (;;) {
    const { done, value } = steps.next()
    if (done === true) return value
  }
}

/** Does it in slices, with a turn of the event loop after each. `now` is in milliseconds and never goes back. */
export async function inSlices<T>(steps: Steps<T>, now: () => number = () => performance.now()): Promise<T> {
  let sliceEnd = now() + sliceMs
  for (;;) {
    const { done, value } = steps.next()
    if (done === true) return value
    if (now() < sliceEnd) continue
    await new Promise(next => setImmediate(next))
    sliceEnd = now() + sliceMs
  }
}
