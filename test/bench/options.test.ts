// The command line of hack/bench: what it means, and what it refuses.
import { describe, expect, it } from 'vitest'
import { fillIn, parseOptions, scenarios, splitWords } from './options.ts'

describe('options', () => {
  it('measure everything unless told otherwise', () => {
    const options = parseOptions([])
    expect(options.services).toEqual([1_000, 5_000, 10_000, 30_000])
    expect([...options.scenarios]).toEqual([...scenarios])
    expect(options).toMatchObject({
      endpoints: 5,
      kinds: undefined,
      changes: 100,
      large: 10_000,
      idleSeconds: 20,
      storm: { services: 10_000, rate: 1_000, seconds: 60 },
      peer: undefined,
    })
  })

  it('take less of everything with --quick, and still what is said', () => {
    expect(parseOptions(['--quick'])).toMatchObject({ services: [1_000], changes: 20, idleSeconds: 5, large: 1_000 })
    expect(parseOptions(['--changes', '7', '--quick'])).toMatchObject({ services: [1_000], changes: 7 })
  })

  it('choose cases', () => {
    const options = parseOptions(['--services=200,300', '--kind', 'ipvs,nftables', '--scenarios', 'idle,storm'])
    expect(options).toMatchObject({ services: [200, 300], kinds: ['ipvs', 'nftables'] })
    expect([...options.scenarios]).toEqual(['idle', 'storm'])
    // No case has 10,000 Services.
    expect(options.storm.services).toBe(300)
    expect(parseOptions(['--services', '200,300', '--storm', '200,50,5']).storm).toEqual({
      services: 200,
      rate: 50,
      seconds: 5,
    })
  })

  it.each([
    [['--services', '0'], '--services 0: expected whole numbers from 1 to 60000'],
    [['--services', '10,'], '--services 10,: expected whole numbers from 1 to 60000'],
    [['--endpoints', '1.5'], '--endpoints 1.5: expected whole numbers from 1 to 1000'],
    [['--changes', '5,6'], '--changes 5,6: expected one number'],
    [['--kind', 'iptables'], '--kind iptables: expected some of iptables-nft, iptables-legacy, nftables, ipvs'],
    [['--scenarios', 'start'], `--scenarios start: expected some of ${scenarios.join(', ')}`],
    [['--storm', '10000'], '--storm 10000: expected Services, changes a second, and seconds'],
    [['--storm', '100,0,5'], '--storm 0: expected whole numbers from 1 to 100000'],
    [['--large', '20000'], '--large 20000: expected whole numbers from 100 to 10000'],
    [['--peer', ' '], '--peer: the command is empty'],
    [['--peer', "a 'b"], "--peer: the quote ' is not closed"],
    [['--peer', 'a {node}'], '--peer: {node} is none of {kubeconfig} {hostname} {cluster-cidr} {mode}'],
    [['--peer-name', 'x'], '--peer-name: there is no --peer to be called so'],
    [['--peer', '/usr/bin/penstock'], '--peer-name: penstock is the name of our own program; choose another'],
  ])('refuse %j', (args, message) => {
    expect(() => parseOptions(args)).toThrow(new Error(message))
  })

  it('refuse what is unknown by name', () => {
    expect(() => parseOptions(['--sevices', '5'])).toThrow('--sevices')
    expect(() => parseOptions(['5'])).toThrow("'5'")
  })
})

describe('a peer', () => {
  it('is named after its program unless it has a name', () => {
    expect(parseOptions(['--peer', '/opt/kube-proxy -v=2']).peer).toEqual({
      name: 'kube-proxy',
      words: ['/opt/kube-proxy', '-v=2'],
    })
    expect(parseOptions(['--peer', 'a', '--peer-name', 'b']).peer?.name).toBe('b')
  })

  it('is split into words without a shell', () => {
    expect(splitWords('a  b\tc')).toEqual(['a', 'b', 'c'])
    expect(splitWords(`a 'b c' --d="e $f"g ''`)).toEqual(['a', 'b c', '--d=e $fg', ''])
    expect(splitWords('a;b|c')).toEqual(['a;b|c'])
    expect(splitWords(`a "it's"`)).toEqual(['a', "it's"])
  })

  it('has its placeholders filled in, once', () => {
    const values = { kubeconfig: '/tmp/{mode}', hostname: 'node-$&', 'cluster-cidr': '10.0.0.0/8', mode: 'ipvs' }
    expect(fillIn(['p', '--k={hostname}', '{cluster-cidr},{cluster-cidr}', '--m={mode}'], values)).toEqual([
      'p',
      '--k=node-$&',
      '10.0.0.0/8,10.0.0.0/8',
      '--m=ipvs',
    ])
    expect(fillIn(['{kubeconfig}'], values)).toEqual(['/tmp/{mode}'])
  })
})
