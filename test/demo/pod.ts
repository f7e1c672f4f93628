// A pod of the demo: an HTTP server that says which pod it is and which client it sees. Run by `Sandbox.worker`.
import { createServer } from 'node:http'
import { answerCalls } from '../support/netns/calls.ts'

/** What a pod answers. */
export interface PodAnswer {
  readonly pod: string
  readonly client: string
}

const [name = '', port = ''] = process.argv.slice(2)

const server = createServer((request, response) => {
  const answer: PodAnswer = { pod: name, client: request.socket.remoteAddress ?? '' }
  response.writeHead(200, { 'content-type': 'application/json', connection: 'close' })
  response.end(`${JSON.stringify(answer)}\n`)
})

const methods = {
  /** Resolves once it serves. Rejects if the port is taken. */
  serve: (): Promise<void> =>
    new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen(Number(port), '0.0.0.0', 4096, () => resolve())
    }),
  /** Takes no new connections, finishes those it has, and ends a moment after it has said so. */
  drain: (): Promise<void> =>
    new Promise(resolve => {
      server.close(() => {
        resolve()
        setImmediate(() => process.disconnect())
      })
    }),
}
export type PodMethods = typeof methods

process.on('SIGINT', () => undefined)
answerCalls(methods)
