// What is asked and answered over HTTP, as values: whoever answers needs no socket, and whoever listens no knowledge.

/** A request, without its body: nothing that is served here reads one. */
export interface HttpRequest {
  readonly method: string
  /** As sent, percent escapes and all, without the query. */
  readonly path: string
}

export interface HttpAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** Answers a request. What it throws becomes status 500. */
export type HttpHandler = (request: HttpRequest) => HttpAnswer | Promise<HttpAnswer>

const nosniff = { 'X-Content-Type-Options': 'nosniff' }

/** Plain text, under the content type that Go programs give it. */
export const textAnswer = (
  status: number,
  body: string,
  headers: Readonly<Record<string, string>> = {},
): HttpAnswer => ({
  status,
  headers: { 'Content-Type': 'text/plain; charset=utf-8', ...nosniff, ...headers },
  body,
})

/** JSON with the two headers of kube-proxy's health answers. `indent` as in `JSON.stringify`. */
export const jsonAnswer = (
  status: number,
  value: unknown,
  { indent, headers = {} }: { indent?: string; headers?: Readonly<Record<string, string>> } = {},
): HttpAnswer => ({
  status,
  headers: { 'Content-Type': 'application/json', ...nosniff, ...headers },
  body: JSON.stringify(value, undefined, indent),
})

/** The answer of Go's ServeMux to a path it does not have. */
export const notFound = (): HttpAnswer => textAnswer(404, '404 page not found\n')
