// The command line.
import { describe, expect, it } from 'vitest'
import { fieldPaths } from '../../src/config/fields.ts'
import { commands, flags, placeholderOf, spelling } from '../../src/config/flag-table.ts'
import { type CommandLine, parseCommandLine } from '../../src/config/flags.ts'
import { UsageError } from '../../src/config/types.ts'

const parse = (line: string): CommandLine => parseCommandLine(line.split(' ').filter(word => word !== ''))

function problemsOf(...argv: string[]): readonly string[] {
  try {
    parseCommandLine(argv)
  } catch (error) {
    if (error instanceof UsageError) return error.problems
    throw error
  }
  return []
}

/** The flags of kube-proxy 1.36, with an argument each takes. */
const kubeProxyFlags = `
  --config=f --write-config-to=f --cleanup --init-only --feature-gates=A=true --kubeconfig=f --master=http://a
  --kube-api-content-type=x --kube-api-qps=5 --kube-api-burst=10 --hostname-override=n --bind-address=::
  --healthz-bind-address=0.0.0.0:10256 --metrics-bind-address=127.0.0.1:10249 --bind-address-hard-fail --profiling
  --show-hidden-metrics-for-version=1.35 --proxy-mode=ipvs --config-sync-period=15m
  --conntrack-tcp-timeout-established=24h --conntrack-tcp-timeout-close-wait=1h --conntrack-tcp-be-liberal
  --conntrack-udp-timeout=0 --conntrack-udp-timeout-stream=0 --conntrack-max-per-core=1 --conntrack-min=1
  --iptables-masquerade-bit=14 --masquerade-all --iptables-localhost-nodeports=false --iptables-sync-period=30s
  --iptables-min-sync-period=1s --ipvs-sync-period=30s --ipvs-min-sync-period=1s --ipvs-scheduler=rr
  --ipvs-exclude-cidrs=10.0.0.0/8 --ipvs-strict-arp --ipvs-tcp-timeout=0 --ipvs-tcpfin-timeout=0 --ipvs-udp-timeout=0
  --detect-local-mode=NodeCIDR --pod-bridge-interface=b --pod-interface-name-prefix=v --cluster-cidr=10.0.0.0/8
  --nodeport-addresses=primary --oom-score-adj=-999 -v=2 --vmodule=a=1 --logging-format=json --log-flush-frequency=5s
  --log-text-split-stream --log-text-info-buffer-size=1k --log-json-split-stream --log-json-info-buffer-size=1Ki
  --boot-id-file=f --machine-id-file=f --version=false --healthz-port=10256 --metrics-port=10249`

describe('kube-proxy', () => {
  it.each(kubeProxyFlags.trim().split(/\s+/))('%s is known', argument => {
    expect(parseCommandLine([argument]).given.size).toBe(1)
  })

  it('has the fields of the table behind its flags, each once', () => {
    const set = flags.flatMap(flag => ('field' in flag ? [flag.field] : []))
    expect(new Set(set).size).toBe(set.length)
    expect(set.filter(field => !fieldPaths.includes(field))).toEqual([])
  })

  it("is started by kubeadm with a file and the node's name", () => {
    const { command, options, settings } = parseCommandLine([
      '--config=/var/lib/kube-proxy/config.conf',
      '--hostname-override=node-1',
    ])
    expect([command, options.config, settings.get('hostnameOverride')]).toEqual([
      'run',
      '/var/lib/kube-proxy/config.conf',
      'node-1',
    ])
  })
})

describe('a flag', () => {
  it.each([
    ['--proxy-mode=ipvs', 'ipvs'],
    ['--proxy-mode ipvs', 'ipvs'],
    ['--proxy_mode=ipvs', 'ipvs'],
    ['--proxy-mode=ipvs --proxy-mode=nftables', 'nftables'],
    ['--proxy-mode=', 'iptables'],
  ])('%s sets the mode to %s', (line, mode) => {
    expect(parse(line).settings.get('mode')).toBe(mode)
  })

  it.each([
    ['-v=4', 4],
    ['-v 4', 4],
    ['-v4', 4],
    ['--v=4', 4],
    ['-v=0x10', 16],
  ])('%s sets the verbosity to %d', (line, level) => {
    expect(parse(line).settings.get('logging.verbosity')).toBe(level)
  })

  it.each([
    ['--masquerade-all', true],
    ['--masquerade-all=false', false],
    ['--masquerade-all=T', true],
    ['--masquerade-all=0', false],
    ['--masquerade-all --masquerade-all=false', false],
  ])('%s switches to %s', (line, on) => {
    expect(parse(line).settings.get('iptables.masqueradeAll')).toBe(on)
  })

  it('that is a list takes commas and adds up', () => {
    const { settings } = parse(
      '--nodeport-addresses=primary,10.0.0.0/8 --nodeport-addresses=localhost --feature-gates=A=true,B=false --feature-gates=B=true --vmodule=a=1,b=2',
    )
    expect(settings.get('nodePortAddresses')).toEqual(['primary', { address: '10.0.0.0', prefix: 8 }, 'localhost'])
    expect(settings.get('featureGates')).toEqual({ A: true, B: true })
    expect(settings.get('logging.vmodule')).toEqual([
      { filePattern: 'a', verbosity: 1 },
      { filePattern: 'b', verbosity: 2 },
    ])
  })

  it('takes the next argument whatever it looks like', () => {
    expect(parse('--oom-score-adj -5').settings.get('oomScoreAdj')).toBe(-5)
    expect(parse('compile --manifests -').options.manifests).toEqual(['-'])
  })

  it.each([
    [['--proxy-mod=x'], '--proxy-mod: unknown flag; did you mean --proxy-mode?'],
    [['--proxy-mod', 'x'], '--proxy-mod: unknown flag; did you mean --proxy-mode?'],
    [['--qwertyuiop'], '--qwertyuiop: unknown flag'],
    [['-proxy-mode=x'], '-proxy-mode: unknown flag; did you mean --proxy-mode?'],
    [['-vmodule=a=2'], '-vmodule: unknown flag; did you mean --vmodule?'],
    [['-x'], '-x: unknown flag'],
    [['--config'], '--config: needs a value, FILE'],
    [['--masquerade-all=maybe'], '--masquerade-all: expected true or false, found "maybe"'],
    [['--masquerade-all', 'false'], 'unexpected argument "false": flags only'],
    [['--', 'x'], 'unexpected argument "x": flags only'],
    [['--iptables-masquerade-bit=x'], '--iptables-masquerade-bit: expected an integer 0–31, found "x"'],
    [['--iptables-sync-period=0'], '--iptables-sync-period: expected a duration above 0, such as "30s", found "0"'],
    [['--vmodule=a'], '--vmodule: expected PATTERN=N, several divided by commas, found "a"'],
    [['--feature-gates=A'], '--feature-gates: expected feature gates as NAME=true or NAME=false, found "A"'],
    [
      ['--nodeport-addresses=x'],
      '--nodeport-addresses: expected a list of CIDRs and the words primary, localhost and all, found "x"',
    ],
    [['compile', '--once'], '--once: a flag of run, not of compile'],
    [['run', '-o', 'json'], '--output: a flag of compile, plan, trace, status, doctor, not of run'],
    [['plan', '-o', 'yaml'], '--output: expected text or json, found "yaml"'],
    [['plan', '--node-address=x'], '--node-address: expected a list of IP addresses, found "x"'],
  ] as const)('%j is refused', (argv, problem) => {
    expect(problemsOf(...argv)).toEqual([problem])
  })

  it('has all its problems reported together', () => {
    expect(() => parse('--once=x --fnord stray stray2')).toThrow(
      'the command line is not right:\n  --once: expected true or false, found "x"\n  --fnord: unknown flag\n  unexpected argument "stray2": flags only',
    )
  })
})

describe('a subcommand', () => {
  it.each(Object.keys(commands).filter(command => command !== 'trace'))('%s is taken', command => {
    expect(parseCommandLine([command]).command).toBe(command)
  })

  it.each([
    ['', 'run', undefined],
    ['-v=1', 'run', undefined],
    ['--cleanup', 'cleanup', undefined],
    ['--cleanup=false', 'run', undefined],
    ['--version', 'version', undefined],
    ['--version=raw', 'version', undefined],
    ['--version=false', 'run', undefined],
    ['--help', 'help', undefined],
    ['-h', 'help', undefined],
    ['run --help', 'help', 'run'],
    ['trace -h --fnord', 'help', 'trace'],
    ['help plan', 'help', 'plan'],
  ])('%j means %s %s', (line, command, topic) => {
    const parsed = parse(line)
    expect([parsed.command, parsed.topic]).toEqual([command, topic])
  })

  it.each([
    ['comple', '"comple": unknown subcommand; did you mean compile?'],
    ['x', '"x": unknown subcommand; they are run, compile, plan, trace, status, doctor, cleanup, help, version'],
    ['help pln', '"pln": unknown subcommand; did you mean plan?'],
  ])('%s is refused', (line, problem) => {
    expect(problemsOf(...line.split(' '))).toEqual([problem])
  })
})

describe('trace', () => {
  it('takes one packet by flags', () => {
    const { options } = parse(
      'trace --src 10.0.0.1 --dst fd00::1 --port 80 --protocol UDP -o json --node-address 1.2.3.4',
    )
    expect(options).toEqual({
      src: '10.0.0.1',
      dst: 'fd00::1',
      port: 80,
      protocol: 'UDP',
      output: 'json',
      nodeAddresses: ['1.2.3.4'],
    })
  })

  it('takes many by a file', () => {
    expect(parse('trace --packets - --manifests a --manifests b,c').options).toEqual({
      packets: '-',
      manifests: ['a', 'b,c'],
    })
  })

  it.each([
    ['trace', 'trace needs --src, --dst, --port, or --packets with a file of packets'],
    ['trace --src 1.2.3.4 --port 1', 'trace needs --dst, or --packets with a file of packets'],
    [
      'trace --packets - --dst 1.2.3.4',
      '--packets: takes the place of --src, --dst, --port and --protocol; give one or the other',
    ],
    ['trace --src x --dst 1.2.3.4 --port 1 --protocol icmp', '--protocol: expected tcp, udp or sctp, found "icmp"'],
    ['trace --src 1.2.3.4 --dst 1.2.3.4 --port 0', '--port: expected an integer 1–65535, found "0"'],
  ])('%s is refused', (line, problem) => {
    expect(problemsOf(...line.split(' '))).toContain(problem)
  })
})

describe('the table', () => {
  it('has every flag once, in the words a person types', () => {
    const names = flags.map(spelling)
    expect(new Set(names).size).toBe(names.length)
    expect(names.filter(name => !/^(-[a-z]|--[a-z]+(-[a-z]+)*)$/.test(name))).toEqual([])
  })

  it('gives every switch no placeholder and every other flag one', () => {
    const switches = flags.filter(flag => placeholderOf(flag) === undefined).map(flag => flag.name)
    expect(switches.sort()).toEqual([
      'bind-address-hard-fail',
      'cleanup',
      'conntrack-tcp-be-liberal',
      'help',
      'init-only',
      'iptables-localhost-nodeports',
      'ipvs-strict-arp',
      'log-json-split-stream',
      'log-text-split-stream',
      'masquerade-all',
      'nftables-table-owner',
      'once',
      'profiling',
      'version',
    ])
  })
})
