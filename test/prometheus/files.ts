// What is handed to Prometheus and Grafana, read from manifests/: alert rules, dashboard queries, and the metrics both name.
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { load } from 'js-yaml'

const manifests = resolve(import.meta.dirname, '../../manifests')

export interface AlertRule {
  readonly alert: string
  readonly expr: string
  readonly for?: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: { readonly summary: string; readonly description: string; readonly runbook: string }
}

interface Groups {
  readonly groups: readonly { readonly name: string; readonly rules: readonly AlertRule[] }[]
}

const { spec } = load(readFileSync(join(manifests, 'overlays/prometheus/prometheus-rule.yaml'), 'utf8')) as {
  readonly spec: Groups
}

/** A rule file as Prometheus reads it: the custom resource without its wrapping. JSON is YAML. */
export const ruleFile = JSON.stringify(spec)

/** All alerts, in the order of the file. */
export const alertRules: readonly AlertRule[] = spec.groups.flatMap(group => group.rules)

export interface Target {
  readonly refId: string
  readonly expr: string
  readonly datasource: { readonly uid: string }
}

export interface Panel {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly description?: string
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
  readonly targets?: readonly Target[]
}

export interface Dashboard {
  readonly title: string
  readonly templating: { readonly list: readonly { readonly name: string; readonly definition?: string }[] }
  readonly panels: readonly Panel[]
}

/** The dashboard as Grafana imports it. */
export const dashboard = JSON.parse(readFileSync(join(manifests, 'grafana/penstock.json'), 'utf8')) as Dashboard

/** A query as Grafana sends it with all nodes chosen. The range is wide enough for scrapes a second apart. */
export const filledIn = (expression: string): string =>
  expression.replaceAll('$__rate_interval', '1m').replaceAll('$instance', '.*')

/** The selectors of an expression: metrics of ours, each with its label matchers if it has some. */
export function selectorsIn(expression: string): string[] {
  return [...expression.matchAll(/\b(?:up|(?:kubeproxy|penstock|process|rest_client)_\w+)\b(?:\{[^}]*\})?/g)].map(
    ([selector]) => selector,
  )
}
