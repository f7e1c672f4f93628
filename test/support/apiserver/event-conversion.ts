// Events are one kind of object under two groups: core v1, in which they are kept, and events.k8s.io/v1.
import type { JsonObject } from './json.ts'

const toNew: Readonly<Record<string, string>> = {
  involvedObject: 'regarding',
  message: 'note',
  reportingComponent: 'reportingController',
  source: 'deprecatedSource',
  firstTimestamp: 'deprecatedFirstTimestamp',
  lastTimestamp: 'deprecatedLastTimestamp',
  count: 'deprecatedCount',
}

const toCore: Readonly<Record<string, string>> = Object.fromEntries(Object.entries(toNew).map(([a, b]) => [b, a]))

function renamed(object: JsonObject, names: Readonly<Record<string, string>>, apiVersion: string): JsonObject {
  const out: JsonObject = {}
  for (const [field, value] of Object.entries(object)) out[names[field] ?? field] = value
  out.apiVersion = apiVersion
  return out
}

/** A core v1 Event in the shape of events.k8s.io/v1. */
export const eventFromCore = (event: JsonObject): JsonObject => renamed(event, toNew, 'events.k8s.io/v1')

/** An events.k8s.io/v1 Event in the shape of core v1. */
export const eventToCore = (event: JsonObject): JsonObject => renamed(event, toCore, 'v1')
