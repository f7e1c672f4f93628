// The table that the demo prints, a row at a time.
import { styleText } from 'node:util'

export interface Row {
  readonly shows: string
  readonly sent: string
  readonly result: string
  /** `not seen`: this cluster cannot show it; not a failure, but said. */
  readonly verdict: 'ok' | 'FAIL' | 'not seen'
}

const widths = { shows: 34, sent: 36, result: 42 }

/** Breaks a text at blanks into lines of at most `width` characters. */
function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  lines.push(line)
  return lines
}

/** The lines of one row. */
export function formatRow(row: Row): string {
  const cells = [wrap(row.shows, widths.shows), wrap(row.sent, widths.sent), wrap(row.result, widths.result)]
  const [shows = [], sent = [], result = []] = cells
  const height = Math.max(shows.length, sent.length, result.length)
  const color = row.verdict === 'ok' ? 'green' : row.verdict === 'FAIL' ? 'red' : 'yellow'
  const lines: string[] = []
  for (let i = 0; i < height; i++) {
    const texts = [(shows[i] ?? '').padEnd(widths.shows), (sent[i] ?? '').padEnd(widths.sent)]
    const verdict = i === 0 ? styleText(color, row.verdict, { stream: process.stdout }) : ''
    lines.push(`${texts.join('  ')}  ${(result[i] ?? '').padEnd(widths.result)}  ${verdict}`.trimEnd())
  }
  return lines.join('\n')
}

export const rule = '-'.repeat(widths.shows + widths.sent + widths.result + 4 + 6)

export const header = [
  `${'what is shown'.padEnd(widths.shows)}  ${'what was sent'.padEnd(widths.sent)}  ${'result'.padEnd(widths.result)}  ok?`,
  rule,
].join('\n')
