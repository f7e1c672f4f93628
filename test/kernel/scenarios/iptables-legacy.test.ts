// Every conformance scenario with real packets, on the legacy variant of iptables.
import { sendScenarios } from './suite.ts'

sendScenarios('iptables-legacy')
