// Protocol names.
import { expect, it } from 'vitest'
import { parseProtocol, protocols } from '../../src/net/protocol.ts'

it('reads each protocol in any case', () => {
  for (const protocol of protocols) {
    expect(parseProtocol(protocol)).toBe(protocol)
    expect(parseProtocol(protocol.toLowerCase())).toBe(protocol)
  }
})

it.each(['', 'icmp', 'tcp ', 'TCP6'])('refuses %j', text => {
  expect(parseProtocol(text)).toBeUndefined()
})
