// A line into arguments, and arguments into text, as the tools do it.

/** Splits a line as iptables-restore does: blanks separate, double quotes hold together, backslash escapes inside them. */
export function splitWords(line: string): string[] {
  const words: string[] = []
  let current: string | undefined
  let quoted = false
  let escaped = false
  for (const character of line) {
    if (quoted) {
      if (escaped) {
        current += character
        escaped = false
      } else if (character === '\\') escaped = true
      else if (character === '"') quoted = false
      else current += character
    } else if (character === '"') {
      quoted = true
      current ??= ''
    } else if (character === ' ' || character === '\t') {
      if (current !== undefined) words.push(current)
      current = undefined
    } else current = (current ?? '') + character
  }
  // An open quote takes the line's end with it.
  if (quoted) current += '\n'
  if (current !== undefined) words.push(current)
  return words
}

/** Prints a text as iptables-save does: plain if made of letters, digits, `-` and `_`, else quoted. */
export const quote = (text: string): string =>
  /^[A-Za-z0-9_-]+$/.test(text) ? text : `"${text.replace(/["\\']/g, '\\$&')}"`

/** Parses an unsigned 32-bit number, decimal, `0x` or octal. Undefined if it is none. */
export function unsigned(text: string): number | undefined {
  let value = Number.NaN
  if (/^0x[0-9a-f]+$/i.test(text)) value = Number.parseInt(text.slice(2), 16)
  else if (/^0[0-7]*$/.test(text)) value = Number.parseInt(text, 8)
  else if (/^[1-9]\d*$/.test(text)) value = Number(text)
  return value <= 0xffffffff ? value : undefined
}

/** `0x4000`. */
export const hexadecimal = (value: number): string => `0x${(value >>> 0).toString(16)}`
