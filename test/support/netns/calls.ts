// Calls between two processes over Node's IPC channel: a request has a number, its answer bears the same number.
import type { ChildProcess } from 'node:child_process'

/** The methods a process answers: one parameter record each. */
export type Methods = { readonly [method: string]: (params: never) => unknown }

/** Calls a method of the other process. Rejects with the other side's message, or when that process ends first. */
export type Call<M extends Methods> = <K extends keyof M & string>(
  method: K,
  params: Parameters<M[K]>[0],
) => Promise<Awaited<ReturnType<M[K]>>>

interface Request {
  readonly id: number
  readonly method: string
  readonly params: unknown
}

interface Answer {
  readonly answer: number
  readonly value?: unknown
  readonly error?: string
}

/** Answers the parent's calls with these handlers, and ends this process when the parent is gone. */
export function answerCalls(methods: Methods): void {
  // The channel is trusted: both ends are this checkout's own files, and `Call` types the parameters at the other end.
  const handlers = methods as { readonly [method: string]: (params: unknown) => unknown }
  const send = (answer: Answer): void => {
    if (process.connected) process.send?.(answer)
  }
  process.on('message', (request: Request) => {
    const run = async (): Promise<unknown> => {
      const handler = handlers[request.method]
      if (handler === undefined) throw new Error(`no such method: ${request.method}`)
      return handler(request.params)
    }
    run().then(
      value => send({ answer: request.id, value }),
      (error: unknown) =>
        send({ answer: request.id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
    )
  })
  process.once('disconnect', () => process.exit(0))
}

/** The calling side of a child process that runs `answerCalls`. `what` names it in errors. */
export function callsTo<M extends Methods>(child: ChildProcess, what: string): Call<M> {
  const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>()
  let next = 1
  let ended: string | undefined
  child.on('message', (message: Answer) => {
    const entry = waiting.get(message.answer)
    if (entry === undefined) return
    waiting.delete(message.answer)
    if (message.error === undefined) entry.resolve(message.value)
    else entry.reject(new Error(message.error))
  })
  const end = (why: string): void => {
    ended ??= why
    for (const entry of waiting.values()) entry.reject(new Error(`${what} ${ended}`))
    waiting.clear()
  }
  child.once('exit', (code, signal) => end(`ended with ${signal ?? `status ${code}`}`))
  child.once('error', error => end(`could not be started: ${error.message}`))
  const call = (method: string, params: unknown): Promise<unknown> =>
    new Promise((resolve, reject) => {
      if (ended !== undefined) {
        reject(new Error(`${what} ${ended}`))
        return
      }
      const id = next++
      waiting.set(id, { resolve, reject })
      const request: Request = { id, method, params }
      child.send(request, error => {
        if (error !== null && waiting.delete(id)) reject(error)
      })
    })
  return call as Call<M>
}
