// Making metrics of one registry, tersely: every metric of a list is made with its name, its help and its labels.
import { Counter, Gauge, Histogram, type Registry } from 'prom-client'

/** Makes metrics that belong to one registry. */
export interface MetricMaker {
  counter<T extends string>(name: string, help: string, labelNames?: readonly T[]): Counter<T>
  gauge<T extends string>(name: string, help: string, labelNames?: readonly T[]): Gauge<T>
  histogram<T extends string>(
    name: string,
    help: string,
    buckets: readonly number[],
    labelNames?: readonly T[],
  ): Histogram<T>
}

/** A maker for a registry. Names and label names must be valid and new to it, or making one throws an Error. */
export function makerFor(registry: Registry): MetricMaker {
  const registers = [registry]
  return {
    counter: (name, help, labelNames = []) => new Counter({ name, help, labelNames, registers }),
    gauge: (name, help, labelNames = []) => new Gauge({ name, help, labelNames, registers }),
    histogram: (name, help, buckets, labelNames = []) =>
      new Histogram({ name, help, labelNames, registers, buckets: [...buckets] }),
  }
}

/** Upper bounds that double: `start`, and so many in all. */
export const doubling = (start: number, count: number): readonly number[] =>
  Array.from({ length: count }, (_, index) => start * 2 ** index)

/** Upper bounds a step apart: `start`, and so many in all. */
export const stepping = (start: number, step: number, count: number): readonly number[] =>
  Array.from({ length: count }, (_, index) => start + step * index)
