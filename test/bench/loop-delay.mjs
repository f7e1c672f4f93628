// An instrument that node loads before the program (--import): how late the event loop is, from the start of the process until
// SIGUSR2, which has it written to the file that BENCH_LOOP_DELAY names. The program's own metric looks every 200 ms only.
import { renameSync, writeFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'

const everyMs = 5
const file = process.env.BENCH_LOOP_DELAY
const histogram = monitorEventLoopDelay({ resolution: everyMs })
histogram.enable()

// What is recorded is the time between two looks.
const late = nanoseconds => Math.max(0, nanoseconds / 1e6 - everyMs)

process.on('SIGUSR2', () => {
  histogram.disable()
  if (file === undefined) return
  const figures = { p99Ms: late(histogram.percentile(99)), maxMs: late(histogram.max) }
  writeFileSync(`${file}.new`, JSON.stringify(figures))
  renameSync(`${file}.new`, file)
})
