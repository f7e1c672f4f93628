// The opaque token of a paged list: which revision it reads and after which key it goes on.
import { isObject } from './json.ts'
import { badRequest } from './status.ts'

export interface Continue {
  /** -1: whatever the present revision is, after the one the list began at was compacted. */
  readonly resourceVersion: number
  /** Key of the last object that was given out. */
  readonly after: string
}

/** The text of a token. */
export const encodeContinue = (token: Continue): string =>
  Buffer.from(JSON.stringify({ v: 'meta.k8s.io/v1', rv: token.resourceVersion, start: token.after })).toString(
    'base64url',
  )

/** Parses a token. Throws a 400 ApiError. */
export function decodeContinue(text: string): Continue {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(text, 'base64url').toString())
    if (isObject(parsed) && typeof parsed.rv === 'number' && typeof parsed.start === 'string') {
      return { resourceVersion: parsed.rv, after: parsed.start }
    }
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
  }
  throw badRequest('continue key is not valid: not a token of this server')
}
