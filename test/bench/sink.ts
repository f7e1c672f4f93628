// Takes streams and forgets them, in a process of its own, so that sender and receiver do not share one. Run by
// `Sandbox.worker`.
import { createServer } from 'node:net'
import { answerCalls } from '../support/netns/calls.ts'
import { ports } from './objects.ts'

const methods = {
  /** Resolves once it listens on all local addresses. */
  serve: (): Promise<void> =>
    new Promise((resolve, reject) => {
      const server = createServer(socket => {
        socket.on('error', () => undefined)
        socket.resume()
      })
      server.once('error', reject)
      server.listen(ports.sink, '0.0.0.0', () => resolve())
    }),
}
export type SinkMethods = typeof methods

process.on('SIGINT', () => undefined)
answerCalls(methods)
