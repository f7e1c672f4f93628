// --write-config-to, and the property that nothing is lost on the way.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type FieldPath, fieldPaths } from '../../src/config/fields.ts'
import { writeConfiguration } from '../../src/config/write.ts'
import { fieldsOf, loadFields, loadFlags, loadText } from './helpers.ts'
import { samples } from './samples.ts'

const word = fc.stringMatching(/^[a-z][a-z0-9.:/ -]{0,8}$/).map(text => JSON.stringify(text))
const name = fc.stringMatching(/^[a-z][a-z0-9]{0,8}$/)
const nanoseconds = fc.bigInt(1n, (1n << 63n) - 1n).map(count => `${count}ns`)
const flag = fc.boolean().map(String)
const cidr = fc.oneof(
  fc.tuple(fc.ipV4(), fc.nat(32)).map(([address, prefix]) => `${address}/${prefix}`),
  fc.tuple(fc.ipV6(), fc.nat(128)).map(([address, prefix]) => `"${address}/${prefix}"`),
)
const list = (item: fc.Arbitrary<string>) => fc.array(item, { maxLength: 4 }).map(items => `[${items.join(', ')}]`)
const listen = fc.oneof(
  fc.tuple(fc.ipV4(), fc.nat(65535)).map(([address, port]) => `"${address}:${port}"`),
  fc.tuple(fc.ipV6(), fc.nat(65535)).map(([address, port]) => `"[${address}]:${port}"`),
  fc.ipV4(),
)

/** Any right value of a field, as YAML. */
function anyValue(path: FieldPath): fc.Arbitrary<string> {
  const { right, unset } = samples[path]
  if (path.endsWith('minSyncPeriod')) return fc.constantFrom('0s', '1ns', '1s', '2ms')
  if (path.endsWith('syncPeriod')) return fc.constantFrom('2s', '30s', '1h1.5s')
  if (path.endsWith('BindAddress')) return listen
  if (path.endsWith('CIDRs')) return list(cidr)
  switch (path) {
    case 'bindAddress':
      return fc.oneof(
        fc.ipV4(),
        fc.ipV6().map(address => `"${address}"`),
      )
    case 'nodePortAddresses':
      return list(fc.oneof(cidr, fc.constantFrom('primary', 'localhost', 'all')))
    case 'clusterCIDR':
      return cidr
    case 'mode':
      return fc.constantFrom('iptables', 'ipvs', 'nftables')
    case 'detectLocalMode':
      return fc.constantFrom('ClusterCIDR', 'NodeCIDR')
    case 'featureGates':
      return fc.dictionary(name, fc.boolean()).map(gates => JSON.stringify(gates))
    case 'logging.format':
      return fc.constant('text')
    case 'clientConnection.qps':
      return fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e6, max: 1e6 }).map(value => value.toFixed(3))
    default:
      if (right === 'word') return word
      if (right === '77') return fc.nat(2147483647).map(String)
      if (right === '1m1.5s') return nanoseconds
      return typeof unset === 'boolean' ? flag : fc.constant(right)
  }
}

const settings = fc
  .subarray([...fieldPaths])
  .chain(paths => fc.tuple(...paths.map(path => anyValue(path).map(yaml => [path, yaml] as const))))

describe('writeConfiguration', () => {
  it('gives back the same configuration when it is loaded, whatever was set', () => {
    fc.assert(
      fc.property(settings, set => {
        const { configuration } = loadFields(fieldsOf(set))
        expect(loadText(writeConfiguration(configuration)).configuration).toEqual(configuration)
      }),
      { numRuns: 300 },
    )
  })

  it('gives back what flags said', () => {
    const { configuration } = loadFlags(
      '--proxy-mode=nftables',
      '--masquerade-all',
      '--bind-address=::',
      '--metrics-port=0',
      '--hostname-override=Node',
      '--vmodule=a=1',
      '--nodeport-addresses=localhost,10.0.0.0/8',
      '--iptables-min-sync-period=100ms',
    )
    expect(loadText(writeConfiguration(configuration))).toMatchObject({ configuration })
  })

  it('writes the defaults as kube-proxy does, but for what is not set', () => {
    const text = writeConfiguration(loadFlags().configuration)
    expect(text).not.toContain('minSyncPeriod')
    expect(text).not.toContain('nftables')
    expect(text.split('\n')).toEqual(
      expect.arrayContaining([
        'apiVersion: kubeproxy.config.k8s.io/v1alpha1',
        'kind: KubeProxyConfiguration',
        'mode: iptables',
        'configSyncPeriod: 15m0s',
        '  tcpEstablishedTimeout: 24h0m0s',
        'healthzBindAddress: 0.0.0.0:10256',
      ]),
    )
  })

  it('says nothing new: loading it makes no notices', () => {
    expect(loadText(writeConfiguration(loadFlags().configuration)).notices).toEqual([])
  })
})
