// One run of the virtual machine: QEMU, the channels out of it, and the one way it all ends.
import { type ChildProcess, spawn } from 'node:child_process'
import type { Duplex, Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { qemuArguments, type Task, taskLine } from './task.ts'

/** How a run ended. `broken` and `late` carry the end of the kernel's log and of what QEMU said. */
export type Ending =
  | { readonly kind: 'done'; readonly status: number }
  | { readonly kind: 'late'; readonly log: string }
  | { readonly kind: 'broken'; readonly reason: string; readonly log: string }
  | { readonly kind: 'unread' }

const keptLog = 16_384

/** How long, in milliseconds, the reader has to take what was written before the time was up. */
const lastWords = 5_000

/** A virtual machine that runs one task. `stop` may be called at any time. */
export class Machine {
  private readonly task: Task
  private readonly qemu: ChildProcess
  private readonly writers: Writer[]
  private readonly ending = Promise.withResolvers<Ending>()
  private readonly exited = Promise.withResolvers<void>()
  private readonly closed = Promise.withResolvers<void>()
  private log = ''
  private control = ''
  /** Set once the command has ended: its status, and how many bytes it wrote to stdout and stderr. */
  private report: { readonly status: number; readonly bytes: readonly number[] } | undefined

  constructor(task: Task) {
    this.task = task
    this.writers = [new Writer(1), new Writer(2)]
    // Killed with this process, however that ends; in a session of its own, so that Ctrl-C reaches only this process,
    // which then ends it.
    this.qemu = spawn('setpriv', ['--pdeathsig', 'KILL', 'qemu-system-x86_64', ...qemuArguments(task)], {
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', 'pipe', 'pipe'],
      detached: true,
    })
    this.qemu.on('error', error => {
      this.settle({ kind: 'broken', reason: error.message, log: '' })
      this.exited.resolve()
      this.closed.resolve()
    })
    this.qemu.on('exit', () => this.exited.resolve())
    // That is once all it wrote has been read, too.
    this.qemu.on('close', (code, signal) => this.onClosed(code, signal))
    this.connect()
  }

  /**
   * Waits for the end of the command, of the machine, of the time, or of whoever reads the output; then ends the rest.
   * What the command wrote until then has been passed on.
   */
  async run(): Promise<Ending> {
    const timer = setTimeout(() => this.settle({ kind: 'late', log: this.log }), this.task.timeout * 1000)
    const ending = await this.ending.promise
    clearTimeout(timer)
    this.kill()
    await this.exited.promise
    switch (ending.kind) {
      case 'unread':
        await this.stop()
        break
      case 'late':
        // Whoever reads the output may be what stands still.
        await Promise.race([this.closed.promise.then(() => this.finish()), sleep(lastWords, undefined, { ref: false })])
        await this.stop()
        break
      default:
        await this.finish()
    }
    return ending
  }

  /** Ends everything at once, and waits until it has ended; output not yet passed on is lost. */
  async stop(): Promise<void> {
    this.kill()
    await Promise.all([this.exited.promise, ...this.writers.map(writer => writer.kill())])
  }

  private async finish(): Promise<void> {
    await Promise.all(this.writers.map(writer => writer.finish()))
  }

  private kill(): void {
    this.qemu.kill('SIGKILL')
  }

  private settle(ending: Ending): void {
    this.ending.resolve(ending)
  }

  private connect(): void {
    const streams = this.qemu.stdio as (Duplex | null)[]
    for (const stream of streams) {
      // A reset at QEMU's end; that it ended is seen elsewhere.
      stream?.on('error', () => {})
    }
    const [, said, complained, stdout, stderr, control, console] = streams
    for (const stream of [said, complained, console]) stream?.on('data', (data: Buffer) => this.onLog(data))
    for (const [index, stream] of [stdout, stderr].entries()) this.passOn(index, stream)
    control?.on('data', (data: Buffer) => this.onControl(data))
    control?.write(taskLine(this.task))
  }

  private passOn(index: number, from: Readable | null | undefined): void {
    const writer = this.writers[index]
    if (writer === undefined || !from) return
    writer.onClosed = () => this.settle({ kind: 'unread' })
    from.on('data', (data: Buffer) => {
      if (!writer.write(data)) {
        from.pause()
        writer.onDrained(() => from.resume())
      }
      this.finishIfRead()
    })
  }

  private onLog(data: Buffer): void {
    const text = data.toString().replaceAll('\r', '')
    this.log = (this.log + text).slice(-keptLog)
    if (this.task.verbose) process.stderr.write(text)
  }

  private onControl(data: Buffer): void {
    this.control += data.toString()
    const line = /^done .*\n/m.exec(this.control)
    if (line === null) return
    const match = /^done (\d+) (\d+) (\d+)\n/.exec(line[0])
    if (match === null) {
      this.settle({ kind: 'broken', reason: `it reported "${line[0].trim()}"`, log: this.log })
      return
    }
    const [status = 125, ...bytes] = match.slice(1).map(Number)
    this.report = { status, bytes }
    this.finishIfRead()
  }

  // The report may overtake the output, which waits for whoever reads it.
  private finishIfRead(): void {
    if (this.report === undefined) return
    const { status, bytes } = this.report
    if (this.writers.every((writer, index) => writer.bytes >= (bytes[index] ?? 0)))
      this.settle({ kind: 'done', status })
  }

  private onClosed(code: number | null, signal: string | null): void {
    const how = signal === null ? `QEMU ended with status ${code}` : `QEMU was killed by ${signal}`
    const when = this.control.includes('started') ? 'while the command ran' : 'before the command was started'
    this.settle({ kind: 'broken', reason: `${how} ${when}`, log: this.log })
    this.closed.resolve()
  }
}

/**
 * Passes data on to this process's own stdout or stderr through a `cat`: a reader that does not read blocks that, and not
 * the timers and signals here.
 */
class Writer {
  bytes = 0
  /** Called if the reader goes away. */
  onClosed: () => void = () => {}
  private readonly cat: ChildProcess
  private readonly exited: Promise<void>

  constructor(fd: 1 | 2) {
    this.cat = spawn('cat', [], { stdio: ['pipe', fd, 2], detached: true })
    this.cat.stdin?.on('error', () => {})
    this.exited = new Promise(resolve => {
      const end = (): void => {
        this.onClosed()
        resolve()
      }
      this.cat.on('exit', end)
      this.cat.on('error', end)
    })
  }

  /** False if the reader is behind; `onDrained` says when it has caught up. */
  write(data: Buffer): boolean {
    this.bytes += data.length
    return this.cat.stdin?.write(data) ?? true
  }

  onDrained(resume: () => void): void {
    this.cat.stdin?.once('drain', resume)
  }

  /** Waits until the reader has taken everything. */
  async finish(): Promise<void> {
    this.cat.stdin?.end()
    await this.exited
  }

  async kill(): Promise<void> {
    this.cat.kill('SIGKILL')
    await this.exited
  }
}
