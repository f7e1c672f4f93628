// Go's durations.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatDuration, parseDuration } from '../../src/config/duration.ts'

describe('parseDuration', () => {
  it.each([
    ['0', 0],
    ['0s', 0],
    ['-0', 0],
    ['100ms', 100],
    ['1.5s', 1500],
    ['.5s', 500],
    ['1.s', 1000],
    ['1h2m3.5s', 3_723_500],
    ['24h', 86_400_000],
    ['15m0s', 900_000],
    ['+2s', 2000],
    ['-1s', -1000],
    ['250us', 0.25],
    ['250µs', 0.25],
    ['250μs', 0.25],
    ['1ns', 0.000_001],
    ['1s1s', 2000],
    ['0.0000000001s', 0],
    ['2562047h47m16.854775807s', 9_223_372_036_854.775],
  ])('%s is %f ms', (text, milliseconds) => {
    expect(parseDuration(text)).toBe(milliseconds)
  })

  it.each([
    '',
    '5',
    '5 s',
    's',
    '.s',
    '5sec',
    '1d',
    '1S',
    '5s ',
    '--5s',
    '1e3s',
    '2562048h',
    '9999999999999999999s',
    '٣s',
  ])('%j is none', text => {
    expect(parseDuration(text)).toBeUndefined()
  })

  it('takes a number of any text for a duration only if it is finite, and never throws', () => {
    const anything = fc.oneof(fc.string(), fc.stringMatching(/^[-+]?[0-9.]{0,30}(ns|us|ms|s|m|h)?[0-9.]{0,5}[smh]?$/))
    fc.assert(
      fc.property(anything, text => {
        const value = parseDuration(text)
        expect(value === undefined || Number.isFinite(value)).toBe(true)
      }),
    )
  })
})

describe('formatDuration', () => {
  it.each([
    [0, '0s'],
    [30_000, '30s'],
    [900_000, '15m0s'],
    [86_400_000, '24h0m0s'],
    [3_723_500, '1h2m3.5s'],
    [100, '100ms'],
    [1.5, '1.5ms'],
    [0.25, '250µs'],
    [0.000_001, '1ns'],
    [-1000, '-1s'],
  ])('%f ms is %s', (milliseconds, text) => {
    expect(formatDuration(milliseconds)).toBe(text)
  })

  it('gives back what it was parsed from', () => {
    const largest = (1n << 63n) - 1n
    fc.assert(
      fc.property(fc.bigInt(-largest, largest), nanoseconds => {
        const milliseconds = parseDuration(`${nanoseconds}ns`)
        expect(parseDuration(formatDuration(milliseconds ?? Number.NaN))).toBe(milliseconds)
      }),
    )
  })
})
