// The configuration file: every field, and every way to get one wrong.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { defaultConfiguration } from '../../src/config/build.ts'
import { fieldPaths, isFieldPath } from '../../src/config/fields.ts'
import { ConfigError } from '../../src/config/types.ts'
import { fieldsOf, header, loadFields, loadText, nested } from './helpers.ts'
import { type Sample, samples, wrongElements } from './samples.ts'

const table = fieldPaths.map(path => [path, samples[path]] as const)

function besides({ beside = '' }: Sample): (readonly [string, string])[] {
  return beside === ''
    ? []
    : beside.split(', ').map(setting => {
        const [path = '', yaml = ''] = setting.split(': ')
        return [path, yaml] as const
      })
}

function problemsOf(run: () => unknown): readonly string[] {
  try {
    run()
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
  return []
}

describe('a field', () => {
  it.each(table)('%s is read', (path, sample) => {
    const { configuration } = loadFields(fieldsOf([...besides(sample), [path, sample.right]]))
    expect(sample.get(configuration)).toEqual(sample.value)
  })

  it.each(table)('%s has its default when it is null', (path, sample) => {
    const others = besides(sample).filter(([name]) => name === 'mode')
    expect(sample.get(loadFields(fieldsOf([...others, [path, 'null']])).configuration)).toEqual(sample.unset)
  })

  it.each(
    table.flatMap(([path, sample]) => sample.wrong.map(([yaml, problem]) => [path, yaml, problem, sample] as const)),
  )('%s: %s is refused', (path, yaml, problem, sample) => {
    const text = fieldsOf([...besides(sample), [path, yaml]])
    expect(problemsOf(() => loadFields(text))).toEqual([`KubeProxyConfiguration.${path}: ${problem}`])
  })

  it.each(table)('%s given twice is refused', (path, sample) => {
    const one = nested(path, sample.right).slice(1, -1)
    const last = path.split('.').at(-1) ?? ''
    const twice = one.replace(`${last}: ${sample.right}`, `${last}: ${sample.right}, ${last}: ${sample.right}`)
    expect(problemsOf(() => loadText(`{${header.trim().replace('\n', ', ')}, ${twice}}`))).toContain(
      `KubeProxyConfiguration.${path}: given more than once`,
    )
  })

  it.each(wrongElements)('%s', (yaml, problem) => {
    expect(problemsOf(() => loadFields(yaml))).toEqual([`KubeProxyConfiguration.${problem}`])
  })
})

describe('zero and empty values', () => {
  it('mean the default where v1alpha1 cannot tell them from nothing', () => {
    const text = `
bindAddress: ""
healthzBindAddress: ""
metricsBindAddress: ""
mode: ""
detectLocalMode: ""
clusterCIDR: ""
nodePortAddresses: []
configSyncPeriod: 0s
clientConnection: {contentType: "", qps: 0, burst: 0}
iptables: {syncPeriod: 0s, minSyncPeriod: 0s}
logging: {format: "", flushFrequency: 0}`
    expect(loadFields(text).configuration).toEqual(defaultConfiguration())
  })

  it('are values where it can', () => {
    const { configuration } = loadFields(
      'conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0}\noomScoreAdj: 0',
    )
    const { maxPerCore, min, tcpEstablishedTimeout, tcpCloseWaitTimeout } = configuration.conntrack
    expect([maxPerCore, min, tcpEstablishedTimeout, tcpCloseWaitTimeout, configuration.oomScoreAdj]).toEqual([
      0, 0, 0, 0, 0,
    ])
  })

  it('leave minSyncPeriod out, so that waiting follows the load', () => {
    expect(loadFields('iptables: {minSyncPeriod: 0s}').configuration).not.toHaveProperty('minSyncPeriod')
    expect(loadFields('iptables: {minSyncPeriod: 1ms}').configuration.minSyncPeriod).toBe(1)
  })

  it('count as nanoseconds when flushFrequency is a bare number', () => {
    expect(loadFields('logging: {flushFrequency: 1500000}').configuration.logging.flushFrequency).toBe(1.5)
  })
})

describe('the document', () => {
  it('may be JSON, indented with tabs', () => {
    const text = JSON.stringify(
      { apiVersion: 'kubeproxy.config.k8s.io/v1alpha1', kind: 'KubeProxyConfiguration', mode: 'ipvs' },
      null,
      '\t',
    )
    expect(loadText(text).configuration.mode).toBe('ipvs')
  })

  it('may begin with a document marker and have null sections', () => {
    expect(loadText(`---\n${header}iptables: null\nlogging: {options: null}\n`).configuration).toEqual(
      defaultConfiguration(),
    )
  })

  it("takes YAML 1.1's words for booleans, as kube-proxy's parser does", () => {
    expect(loadFields('enableProfiling: yes\nbindAddressHardFail: off').configuration).toMatchObject({
      enableProfiling: true,
      bindAddressHardFail: false,
    })
  })

  it.each([
    ['', 'the file is empty: expected a KubeProxyConfiguration'],
    ['# nothing\n', 'the file is empty: expected a KubeProxyConfiguration'],
    ['hello', 'expected a KubeProxyConfiguration, found "hello"'],
    ['[1]', 'expected a KubeProxyConfiguration, found a list'],
    [`${header}---\n${header}`, 'the file holds 2 documents: expected one KubeProxyConfiguration'],
    [
      'a: [',
      'line 1, column 5: not well formed as YAML or JSON: unexpected end of the stream within a flow collection',
    ],
  ])('%j is refused', (text, problem) => {
    expect(problemsOf(() => loadText(text))).toEqual([problem])
  })

  it('of another kind or version is refused before its fields are looked at', () => {
    expect(problemsOf(() => loadText('apiVersion: v1\nkind: ConfigMap\ndata: {}'))).toEqual([
      'KubeProxyConfiguration.apiVersion: expected "kubeproxy.config.k8s.io/v1alpha1", found "v1"',
      'KubeProxyConfiguration.kind: expected "KubeProxyConfiguration", found "ConfigMap" (the configuration is the text under its key config.conf)',
    ])
    expect(problemsOf(() => loadText('mode: ipvs'))).toEqual([
      'KubeProxyConfiguration.apiVersion: expected "kubeproxy.config.k8s.io/v1alpha1", found nothing',
      'KubeProxyConfiguration.kind: expected "KubeProxyConfiguration", found nothing',
    ])
  })
})

describe('an unknown field', () => {
  it.each([
    ['mod: x', 'mod: unknown field; did you mean mode?'],
    ['iptables: {masqueradebit: 1}', 'iptables.masqueradebit: unknown field; did you mean masqueradeBit?'],
    ['masqueradeAll: true', 'masqueradeAll: unknown field; did you mean iptables.masqueradeAll?'],
    [
      'nftables: {localhostNodePorts: true}',
      'nftables.localhostNodePorts: unknown field; did you mean iptables.localhostNodePorts?',
    ],
    ['fnord: 1', 'fnord: unknown field'],
    [
      'udpIdleTimeout: 0s',
      'udpIdleTimeout: unknown field: it belonged to the userspace mode, which is gone; delete it',
    ],
    ['metadata: {name: x}', 'metadata: unknown field'],
    ['__proto__: {mode: ipvs}', '__proto__: unknown field'],
    ['constructor: 1', 'constructor: unknown field'],
    ['1: 2', '1: unknown field'],
  ])('%s is refused', (yaml, problem) => {
    expect(problemsOf(() => loadFields(yaml))).toEqual([`KubeProxyConfiguration.${problem}`])
  })

  it('is none of the paths a prototype has', () => {
    expect(['toString', 'constructor', '__proto__'].filter(isFieldPath)).toEqual([])
  })
})

it('reports every problem at once, under the name of the file', () => {
  const text = 'mode: x\niptables: 3\nipvs: {syncPeriod: 1, syncPeriod: 2}\ndetectLocalMode: BridgeInterface'
  expect(() => loadFields(text)).toThrow(
    [
      'FILE cannot be used:',
      '  KubeProxyConfiguration.mode: expected iptables, ipvs or nftables, found "x"',
      '  KubeProxyConfiguration.iptables: expected a mapping, found 3',
      '  KubeProxyConfiguration.ipvs.syncPeriod: given more than once',
      '  KubeProxyConfiguration.ipvs.syncPeriod: expected a duration above 0, such as "30s", found 2',
      '  KubeProxyConfiguration.detectLocal.bridgeInterface: must be set where detectLocalMode is BridgeInterface',
    ].join('\n'),
  )
})

it('turns whatever text it is given into a configuration or a ConfigError', () => {
  const key = fc.constantFrom(
    'mode',
    'iptables',
    'syncPeriod',
    'logging',
    'vmodule',
    'featureGates',
    'x',
    '<<',
    '__proto__',
  )
  const scalar = fc.oneof(fc.jsonValue(), fc.constantFrom('1s', '', '10.0.0.0/8', 'primary'))
  const { tree } = fc.letrec(tie => ({
    tree: fc.oneof(
      { maxDepth: 4 },
      scalar,
      fc.dictionary(key, tie('tree'), { maxKeys: 4 }),
      fc.array(tie('tree'), { maxLength: 3 }),
    ),
  }))
  const document = fc.dictionary(key, tree).map(node => `${header}${JSON.stringify(node).slice(1, -1)}`)
  const flow = fc
    .dictionary(key, tree)
    .map(node =>
      JSON.stringify({ apiVersion: 'kubeproxy.config.k8s.io/v1alpha1', kind: 'KubeProxyConfiguration', ...node }),
    )
  fc.assert(
    fc.property(fc.oneof(fc.string(), document, flow), text => {
      const before = problemsOf(() => loadText(text))
      expect(before.filter(problem => problem === '')).toEqual([])
    }),
    { numRuns: 300 },
  )
})
