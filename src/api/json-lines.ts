// A watch's body: one JSON value a line, parsed as it comes.
import { StreamError } from './errors.ts'

/** Longer than anything etcd can hold many times over: such a line is garbage, not an object. */
const lineLimit = 32 * 1024 * 1024

/**
 * Parses a stream of newline-separated JSON values. A line that is cut off by the end of the stream counts as a bad one.
 * @throws StreamError `bad-frame` for a line that is not JSON or does not end.
 */
export async function* jsonLines(chunks: AsyncIterable<Buffer>): AsyncGenerator<unknown> {
  let pending: Buffer[] = []
  let pendingBytes = 0
  for await (const chunk of chunks) {
    let start = 0
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      const tail = chunk.subarray(start, end)
      const line = pendingBytes === 0 ? tail : Buffer.concat([...pending, tail])
      pending = []
      pendingBytes = 0
      start = end + 1
      if (!isBlank(line)) yield parseLine(line)
    }
    if (start < chunk.length) {
      pending.push(chunk.subarray(start))
      pendingBytes += chunk.length - start
      if (pendingBytes > lineLimit) throw new StreamError('bad-frame', `a line of more than ${lineLimit} bytes`)
    }
  }
  const rest = Buffer.concat(pending)
  if (!isBlank(rest)) yield parseLine(rest)
}

const isBlank = (line: Buffer): boolean => line.every(byte => byte === 32 || byte === 13 || byte === 9)

function parseLine(line: Buffer): unknown {
  try {
    return JSON.parse(line.toString('utf8'))
  } catch (error) {
    const start = line.toString('utf8', 0, 60)
    throw new StreamError('bad-frame', `a line that is not JSON: ${JSON.stringify(start)}`, { cause: error })
  }
}
