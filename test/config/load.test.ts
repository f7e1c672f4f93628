// Precedence, defaults, and what the user is told.
import { describe, expect, it } from 'vitest'
import { defaultConfiguration } from '../../src/config/build.ts'
import { parseCommandLine } from '../../src/config/flags.ts'
import { load } from '../../src/config/load.ts'
import { loadFields, loadFlags } from './helpers.ts'

describe('nothing set', () => {
  it("is kube-proxy's defaults, but for minSyncPeriod", () => {
    const { configuration, notices } = loadFlags()
    expect(configuration).toEqual(defaultConfiguration())
    expect(configuration).toMatchObject({
      mode: 'iptables',
      syncPeriod: 30_000,
      masqueradeAll: false,
      masqueradeBit: 14,
      localhostNodePorts: true,
      detectLocalMode: 'ClusterCIDR',
      clusterCIDRs: [],
      nodePortAddresses: [],
      hostnameOverride: '',
      bindAddress: '0.0.0.0',
      oomScoreAdj: -999,
      configSyncPeriod: 900_000,
    })
    expect(configuration).not.toHaveProperty('minSyncPeriod')
    expect(notices).toEqual([])
  })

  it('is the same from an empty file', () => {
    expect(loadFields('')).toEqual(loadFlags())
  })
})

describe('beside --config', () => {
  it('flags are ignored, and named once', () => {
    const { configuration, notices } = loadFields('mode: ipvs', '--proxy-mode=nftables', '--cluster-cidr=10.0.0.0/8')
    expect(configuration.mode).toBe('ipvs')
    expect(configuration.clusterCIDRs).toEqual([])
    expect(notices).toEqual(['ignored, because --config is given: --proxy-mode, --cluster-cidr; set them in FILE'])
  })

  it('every flag that is a field is ignored but for the host name and logging', () => {
    const { notices } = loadFields(
      '',
      '--kubeconfig=x',
      '--hostname-override=n',
      '-v=1',
      '--logging-format=json',
      '--log-flush-frequency=1s',
      '--master=http://a',
      '--once',
      '--manifests=x',
      '--healthz-port=0',
      '--init-only',
      '--write-config-to=f',
    )
    expect(notices[0]).toBe('ignored, because --config is given: --kubeconfig, --healthz-port; set them in FILE')
  })

  it('the host name of the flag wins, trimmed and in lower case', () => {
    expect(loadFields('hostnameOverride: a', '--hostname-override= Node-B ').configuration.hostnameOverride).toBe(
      'node-b',
    )
    expect(loadFields('hostnameOverride: " A "', '--hostname-override=').configuration.hostnameOverride).toBe('a')
  })

  it('a logging flag wins over its field and leaves the others', () => {
    const { logging } = loadFields('logging: {verbosity: 2, flushFrequency: 1s}', '-v=5').configuration
    expect([logging.verbosity, logging.flushFrequency]).toEqual([5, 1000])
    expect(loadFields('logging: {verbosity: 2}', '-v=0').configuration.logging.verbosity).toBe(0)
  })

  it('lists of vmodule are joined, the flag first', () => {
    const file = 'logging: {vmodule: [{filePattern: b, verbosity: 2}]}'
    expect(loadFields(file, '--vmodule=a=1').configuration.logging.vmodule).toEqual([
      { filePattern: 'a', verbosity: 1 },
      { filePattern: 'b', verbosity: 2 },
    ])
    expect(loadFields(file, '-v=1').configuration.logging.vmodule).toEqual([{ filePattern: 'b', verbosity: 2 }])
  })

  it('a file that cannot be read is said so', () => {
    const read = () => {
      throw new Error('no such file')
    }
    expect(() => load(parseCommandLine(['--config=/x']), read)).toThrow('--config: /x cannot be read: no such file')
  })

  it('an empty path is none', () => {
    expect(loadFlags('--config=')).toEqual(loadFlags())
  })
})

describe("the active mode's section", () => {
  const file = `
iptables: {masqueradeBit: 1, masqueradeAll: true, syncPeriod: 11s, minSyncPeriod: 1s}
ipvs: {syncPeriod: 12s, minSyncPeriod: 2s}
nftables: {masqueradeBit: 3, masqueradeAll: false, syncPeriod: 13s, minSyncPeriod: 3s}`
  it.each([
    ['iptables', 1, true, 11_000, 1000],
    ['ipvs', 1, true, 12_000, 2000],
    ['nftables', 3, false, 13_000, 3000],
  ])('holds in %s mode', (mode, masqueradeBit, masqueradeAll, syncPeriod, minSyncPeriod) => {
    expect(loadFields(`mode: ${mode}${file}`).configuration).toMatchObject({
      masqueradeBit,
      masqueradeAll,
      syncPeriod,
      minSyncPeriod,
    })
  })

  it.each([
    ['iptables', true, 11_000, 1000],
    ['ipvs', true, 12_000, 2000],
    ['nftables', true, 11_000, 1000],
  ])('is set by flags in %s mode', (mode, masqueradeAll, syncPeriod, minSyncPeriod) => {
    const { configuration } = loadFlags(
      `--proxy-mode=${mode}`,
      '--masquerade-all',
      '--iptables-sync-period=11s',
      '--iptables-min-sync-period=1s',
      '--ipvs-sync-period=12s',
      '--ipvs-min-sync-period=2s',
    )
    expect(configuration).toMatchObject({ masqueradeAll, syncPeriod, minSyncPeriod })
  })

  it('has no flag for the mark in nftables mode', () => {
    const { configuration, notices } = loadFlags('--proxy-mode=nftables', '--iptables-masquerade-bit=3')
    expect(configuration.masqueradeBit).toBe(14)
    expect(notices).toEqual(['without effect, because the mode is nftables: --iptables-masquerade-bit'])
  })

  it('leaves minSyncPeriod unset where it is not given or 0', () => {
    for (const mode of ['iptables', 'ipvs', 'nftables']) {
      expect(loadFlags(`--proxy-mode=${mode}`, '--iptables-min-sync-period=0').configuration).not.toHaveProperty(
        'minSyncPeriod',
      )
    }
  })

  it('opens NodePorts on the primary addresses only in nftables mode', () => {
    expect(loadFlags('--proxy-mode=nftables').configuration.nodePortAddresses).toEqual(['primary'])
    expect(loadFields('mode: nftables\nnodePortAddresses: [all]').configuration.nodePortAddresses).toEqual(['all'])
  })
})

describe('addresses to listen on', () => {
  it('follow the family of bindAddress in a file', () => {
    expect(loadFields('bindAddress: "::"').configuration).toMatchObject({
      healthzBindAddress: { address: '::', port: 10256 },
      metricsBindAddress: { address: '::1', port: 10249 },
    })
  })

  it('do not by flags, whose defaults are made first', () => {
    expect(loadFlags('--bind-address=::').configuration).toMatchObject({
      healthzBindAddress: { address: '0.0.0.0', port: 10256 },
      metricsBindAddress: { address: '127.0.0.1', port: 10249 },
    })
  })

  it.each([
    ['1.2.3.4', { address: '1.2.3.4', port: 10256 }],
    ['::', { address: '::', port: 10256 }],
    ['[::]:1', { address: '::', port: 1 }],
    ['1.2.3.4:0', 'disabled'],
  ])('%s is %j', (text, address) => {
    expect(loadFields(`healthzBindAddress: "${text}"`).configuration.healthzBindAddress).toEqual(address)
    expect(loadFlags(`--healthz-bind-address=${text}`).configuration.healthzBindAddress).toEqual(address)
  })

  it('are disabled by an empty flag', () => {
    expect(loadFlags('--metrics-bind-address=', '--healthz-bind-address=').configuration).toMatchObject({
      metricsBindAddress: 'disabled',
      healthzBindAddress: 'disabled',
    })
  })

  it('are disabled or completed by the deprecated ports', () => {
    expect(loadFlags('--metrics-port=0').configuration.metricsBindAddress).toBe('disabled')
    expect(loadFlags('--healthz-port=9', '--healthz-bind-address=1.2.3.4').configuration.healthzBindAddress).toEqual({
      address: '1.2.3.4',
      port: 9,
    })
    const alone = loadFlags('--healthz-port=9')
    expect(alone.configuration.healthzBindAddress).toEqual({ address: '0.0.0.0', port: 10256 })
    expect(alone.notices).toEqual(['--healthz-port is deprecated and changes nothing here; use --healthz-bind-address'])
    expect(loadFlags('--metrics-port=0', '--write-config-to=f').configuration.metricsBindAddress).not.toBe('disabled')
  })
})

describe('notices of what has no effect', () => {
  it.each([
    [
      'clientConnection: {qps: 1, burst: 1}',
      'requests are few and always JSON: KubeProxyConfiguration.clientConnection.qps, KubeProxyConfiguration.clientConnection.burst',
    ],
    ['clientConnection: {contentType: application/cbor}', 'KubeProxyConfiguration.clientConnection.contentType'],
    ['ipvs: {strictARP: true}', 'the mode is iptables: KubeProxyConfiguration.ipvs.strictARP'],
    ['featureGates: {NFTablesNetlink: false}', 'KubeProxyConfiguration.featureGates NFTablesNetlink=false'],
    ['winkernel: {enableDSR: true}', 'it is for Windows nodes only: KubeProxyConfiguration.winkernel.enableDSR'],
    ['portRange: 1-2', 'KubeProxyConfiguration.portRange'],
  ])('%s', (yaml, words) => {
    const { notices } = loadFields(yaml)
    expect(notices).toHaveLength(1)
    expect(notices[0]).toMatch(/^without effect, because /)
    expect(notices[0]).toContain(words)
  })

  it.each([
    'oomScoreAdj: -999',
    'conntrack: {min: 131072, tcpEstablishedTimeout: 24h0m0s, tcpBeLiberal: true}',
    'clientConnection: {contentType: application/json, qps: 5}',
    'featureGates: {NFTablesProxyMode: true, LoggingAlphaOptions: false}',
    'nftables: {masqueradeBit: 14, minSyncPeriod: 1s, syncPeriod: 30s}',
    'mode: ipvs\nipvs: {strictARP: true}\niptables: {masqueradeBit: 3}',
    'metricsBindAddress: "0.0.0.0:0"',
    'hostnameOverride: x\nclusterCIDR: 10.0.0.0/8',
  ])('are not made for %s', yaml => {
    expect(loadFields(yaml).notices).toEqual([])
  })

  it('name flags that are only inherited', () => {
    expect(loadFlags('--boot-id-file=x').notices).toEqual(['without effect, because nothing reads it: --boot-id-file'])
  })
})
