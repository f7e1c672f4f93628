// What hack/vm was asked for, and how it is told to the virtual machine. Pure.

/** What to run, where, and within which limits. All paths are absolute. */
export interface Task {
  readonly command: readonly string[]
  readonly cwd: string
  /** Environment of the command. */
  readonly env: Readonly<Record<string, string>>
  /** Unpacked kernel, first file system and modules, as hack/vm.d/image.sh made them. */
  readonly kernel: string
  readonly initrd: string
  readonly modules: string
  readonly checkout: string
  /** Directory whose contents stay. */
  readonly out: string | undefined
  /** Limit on everything, boot included, in seconds. */
  readonly timeout: number
  readonly verbose: boolean
}

/** Wrong usage; the message is a sentence for the user. */
export class UsageError extends Error {}

/** The options of hack/vm itself, and the command that follows them. */
export interface CommandLine {
  readonly timeout: number
  readonly out: string | undefined
  readonly verbose: boolean
  readonly command: readonly string[]
}

/**
 * Reads hack/vm's command line. Options end at the first word that is none, or at `--`: what follows belongs to the command.
 * @throws UsageError naming the option at fault
 */
export function parseCommandLine(words: readonly string[]): CommandLine {
  let timeout = 1200
  let out: string | undefined
  let verbose = false
  let at = 0
  while (at < words.length) {
    const word = words[at] ?? ''
    if (word === '--' || !word.startsWith('-')) break
    const [name, inline] = splitOption(word)
    at += 1
    if (name === '--verbose' && inline === undefined) {
      verbose = true
      continue
    }
    if (name !== '--timeout' && name !== '--out') throw new UsageError(`there is no option ${word}; see hack/vm --help`)
    const value = inline ?? words[at]
    if (inline === undefined) at += 1
    if (value === undefined || value === '') throw new UsageError(`${name} needs a value`)
    if (name === '--out') out = value
    else timeout = seconds(value)
  }
  const command = words.slice(words[at] === '--' ? at + 1 : at)
  if (command.length === 0) throw new UsageError('there is no command to run; see hack/vm --help')
  return { timeout, out, verbose, command }
}

function splitOption(word: string): [string, string | undefined] {
  const equals = word.indexOf('=')
  return equals < 0 ? [word, undefined] : [word.slice(0, equals), word.slice(equals + 1)]
}

function seconds(value: string): number {
  const number = Number(value)
  // Above this a timer of Node fires at once.
  if (!/^\d+$/.test(value) || number === 0 || number > 2_000_000) {
    throw new UsageError(`--timeout ${value} is not a whole number of seconds from 1 to 2000000`)
  }
  return number
}

/** A word as the shell reads it back unchanged, whatever is in it. */
export function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`
}

/**
 * The line the virtual machine reads at its start: two words in base64, the settings of `init` and the script that becomes
 * the command. Not files, so that none can be left behind; not the kernel's command line, which is short.
 */
export function taskLine(task: Task): string {
  const settings = { modules: task.modules, checkout: task.checkout, cwd: task.cwd, out: task.out ?? '' }
  const script = [
    ...Object.entries(task.env).map(([name, value]) => `export ${name}=${quote(value)}`),
    `cd ${quote(task.cwd)} || exit 126`,
    `exec ${task.command.map(quote).join(' ')}`,
  ]
  const assignments = Object.entries(settings).map(([name, value]) => `${name}=${quote(value)}`)
  return `${[assignments, script].map(lines => Buffer.from(`${lines.join('\n')}\n`).toString('base64')).join(' ')}\n`
}

/** The command's environment, from that of hack/vm: root's, with the caller's PATH, language and time zone. */
export function insideEnvironment(outside: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const path = [...(outside.PATH ?? '').split(':'), '/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin']
  const kept = ['LANG', 'LC_ALL', 'TZ', 'TERM', 'CI', 'NO_COLOR', 'FORCE_COLOR'].flatMap(name => {
    const value = outside[name]
    return value === undefined ? [] : [[name, value] as const]
  })
  return {
    ...Object.fromEntries(kept),
    HOME: '/root',
    USER: 'root',
    LOGNAME: 'root',
    SHELL: '/bin/sh',
    PATH: [...new Set([...path, '/sbin', '/bin'])].filter(directory => directory !== '').join(':'),
  }
}

// An emulated processor runs every instruction these spare it, and there is nothing in there to protect. Without norandmaps
// a program's translation is not found again at its next start: /bin/true a hundred times took 10 s instead of 3 to 5.
const fast = 'mitigations=off nopti nokaslr norandmaps audit=0 apparmor=0 cryptomgr.notests random.trust_cpu=on'

/**
 * QEMU's command line. File descriptors 3 to 6 are sockets: the command's stdout and stderr, the control channel, and the
 * kernel's console.
 */
export function qemuArguments(task: Task): string[] {
  // QEMU's own escape for a comma in a value.
  const value = (text: string): string => text.replaceAll(',', ',,')
  const share = (id: string, path: string, options: string): string[] => [
    '-fsdev',
    `local,id=${id},path=${value(path)},security_model=none,multidevs=remap${options}`,
    '-device',
    `virtio-9p-pci,fsdev=${id},mount_tag=${id}`,
  ]
  const port = (number: number, fd: number): string[] => [
    '-chardev',
    `socket,id=port${number},fd=${fd}`,
    '-device',
    `virtserialport,nr=${number},chardev=port${number}`,
  ]
  return [
    // /dev/kvm is not tried: inside virtual machines it may be there and hang.
    ...['-accel', 'tcg,thread=multi,tb-size=256', '-smp', '2', '-m', '4096'],
    // Page tables of five levels cost a look-up at every miss.
    ...['-machine', 'pc', '-cpu', 'max,la57=off'],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-kernel', task.kernel, '-initrd', task.initrd],
    // The timestamp counter is the host's own and steady; the other clocks cost a trap at every look at the time.
    ...['-append', `console=ttyS0 panic=-1 tsc=reliable ${fast}${task.verbose ? '' : ' quiet'}`],
    ...share('host', '/', ',readonly=on'),
    ...(task.out === undefined ? [] : share('out', task.out, '')),
    ...['-device', 'virtio-serial-pci'],
    ...port(1, 3),
    ...port(2, 4),
    ...port(3, 5),
    ...['-chardev', 'socket,id=console,fd=6', '-serial', 'chardev:console'],
  ]
}
