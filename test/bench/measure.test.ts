// What a person reads when a case fails.
import { expect, it } from 'vitest'
import { messageOf } from './measure.ts'

it('an error that came from another process is its own words', () => {
  const relayed = `Error: Error: the program ended by itself, with status 1
E1121 cannot listen
    at running (program.ts:34:11)
    at run (calls.ts:36:14)`
  expect(messageOf(new Error(relayed))).toBe('the program ended by itself, with status 1\nE1121 cannot listen')
  expect(messageOf(new Error('a burst was not in the kernel after 120 s'))).toBe(
    'a burst was not in the kernel after 120 s',
  )
})
