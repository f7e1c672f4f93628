// Every conformance scenario with real packets, on nftables.
import { sendScenarios } from './suite.ts'

sendScenarios('nftables')
