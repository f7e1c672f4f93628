// Which settings of connection tracking a configuration asks for, and what is said of those that cannot be made.
import { describe, expect, test } from 'vitest'
import {
  applyConntrackSettings,
  bridgeProblem,
  conntrackSettings,
  countCpus,
  type SettingMeans,
} from '../../src/kernel/conntrack-settings.ts'

const none = {
  maxPerCore: 0,
  min: 131_072,
  tcpEstablishedTimeout: 0,
  tcpCloseWaitTimeout: 0,
  tcpBeLiberal: false,
  udpTimeout: 0,
  udpStreamTimeout: 0,
}
const prefix = 'net.netfilter.nf_conntrack_'
const asked = (configuration: Partial<typeof none>, cpus = 4): Record<string, string> =>
  Object.fromEntries(conntrackSettings({ ...none, ...configuration }, cpus).map(({ name, value }) => [name, value]))

describe('what is asked for', () => {
  test('nothing where everything is 0, whatever the minimum', () => {
    expect(asked({})).toEqual({})
  })

  test.each([
    [32_768, 131_072, 2, 131_072],
    [32_768, 131_072, 8, 262_144],
    [32_768, 131_072, 64, 1_048_576],
    // A configured minimum above the cap counts where the CPUs ask for less than the cap, as in kube-proxy.
    [32_768, 2_000_000, 64, 1_048_576],
    [32_768, 2_000_000, 8, 2_000_000],
  ])('%i a CPU, at least %i, %i CPUs: %i', (maxPerCore, min, cpus, max) => {
    expect(asked({ maxPerCore, min }, cpus)).toEqual({ [`${prefix}max`]: `${max}`, hashsize: `${max / 4}` })
  })

  test('timeouts in seconds, rounded down but not to 0', () => {
    expect(
      asked({
        tcpEstablishedTimeout: 86_400_000,
        tcpCloseWaitTimeout: 3_600_000,
        udpTimeout: 1900,
        udpStreamTimeout: 5,
      }),
    ).toEqual({
      [`${prefix}tcp_timeout_established`]: '86400',
      [`${prefix}tcp_timeout_close_wait`]: '3600',
      [`${prefix}udp_timeout`]: '1',
      [`${prefix}udp_timeout_stream`]: '1',
    })
  })

  test('tcpBeLiberal', () => {
    expect(asked({ tcpBeLiberal: true })).toEqual({ [`${prefix}tcp_be_liberal`]: '1' })
  })
})

describe('making them', () => {
  const means = (hashsize: string, refused: readonly string[] = []) => {
    const made: Record<string, string> = {}
    const write = async (name: string, value: string): Promise<void> => {
      if (refused.includes(name)) throw new Error(`${name} is read-only`)
      made[name] = value
    }
    const given: SettingMeans = {
      ensureSysctl: write,
      readHashsize: async () => `${hashsize}\n`,
      writeHashsize: value => write('hashsize', value),
    }
    return { made, given }
  }
  const settings = conntrackSettings({ ...none, maxPerCore: 32_768, tcpBeLiberal: true }, 8)

  test('raises the number of buckets, and never lowers it', async () => {
    const low = means('1024')
    expect(await applyConntrackSettings(settings, low.given)).toEqual([])
    expect(low.made).toEqual({ [`${prefix}max`]: '262144', hashsize: '65536', [`${prefix}tcp_be_liberal`]: '1' })
    const high = means('65536')
    expect(await applyConntrackSettings(settings, high.given)).toEqual([])
    expect(high.made).not.toHaveProperty('hashsize')
  })

  test('what cannot be made is said in one sentence and stops nothing', async () => {
    const { made, given } = means('1024', [`${prefix}max`, 'hashsize'])
    expect(await applyConntrackSettings(settings, given)).toEqual([
      `${prefix}max is read-only; without it new connections are dropped once as many are tracked as the limit that is set now`,
      '/sys/module/nf_conntrack/parameters/hashsize cannot be raised to 65536 (it is 1024): hashsize is read-only; ' +
        'without it a full table of connections costs time for each packet',
    ])
    expect(made).toEqual({ [`${prefix}tcp_be_liberal`]: '1' })
  })
})

test.each([
  ['0-3\n', 4],
  ['0', 1],
  ['0-1,4,8-11', 7],
  ['', undefined],
  ['0-x', undefined],
])('the list of CPUs %j has %j', (list, count) => {
  expect(countCpus(list)).toBe(count)
})

test('rules that bridged packets do not pass', () => {
  expect(bridgeProblem('IPv4', '1')).toBeUndefined()
  expect(bridgeProblem('IPv4', '0')).toBe(
    "the sysctl net.bridge.bridge-nf-call-iptables is 0: pods on this node's bridge cannot reach each other through " +
      'Services; set net.bridge.bridge-nf-call-iptables to 1',
  )
  expect(bridgeProblem('IPv6', undefined)).toBe(
    "the sysctl net.bridge.bridge-nf-call-ip6tables is not there: pods on this node's bridge cannot reach each other " +
      'through Services; load the module br_netfilter and set net.bridge.bridge-nf-call-ip6tables to 1',
  )
})
