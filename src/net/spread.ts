// Spreading texts evenly: for groups, where a collision costs nothing. Not for names, which must differ.

/**
 * A number of 32 bits, all of which depend on all of the text: FNV-1a, mixed by the end of MurmurHash3. For the 10,000
 * endpoints of a Service 1 ms, where SHA-256 takes 40.
 */
export function spread32(text: string, seed = 0): number {
  let hash = 0x811c9dc5 ^ seed
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
