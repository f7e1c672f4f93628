// The ConfigMap that kubeadm generates, whole.
import { load as parseYAML } from 'js-yaml'
import { expect, it } from 'vitest'
import { defaultConfiguration } from '../../src/config/build.ts'
import { loadText } from './helpers.ts'

const configMap = `
apiVersion: v1
kind: ConfigMap
metadata:
  name: kube-proxy
  namespace: kube-system
  labels:
    app: kube-proxy
data:
  config.conf: |-
    apiVersion: kubeproxy.config.k8s.io/v1alpha1
    bindAddress: 0.0.0.0
    bindAddressHardFail: false
    clientConnection:
      acceptContentTypes: ""
      burst: 0
      contentType: ""
      kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
      qps: 0
    clusterCIDR: 10.244.0.0/16
    configSyncPeriod: 0s
    conntrack:
      maxPerCore: null
      min: null
      tcpBeLiberal: false
      tcpCloseWaitTimeout: null
      tcpEstablishedTimeout: null
      udpStreamTimeout: 0s
      udpTimeout: 0s
    detectLocal:
      bridgeInterface: ""
      interfaceNamePrefix: ""
    detectLocalMode: ""
    enableProfiling: false
    healthzBindAddress: ""
    hostnameOverride: ""
    iptables:
      localhostNodePorts: null
      masqueradeAll: false
      masqueradeBit: null
      minSyncPeriod: 0s
      syncPeriod: 0s
    ipvs:
      excludeCIDRs: null
      minSyncPeriod: 0s
      scheduler: ""
      strictARP: false
      syncPeriod: 0s
      tcpFinTimeout: 0s
      tcpTimeout: 0s
      udpTimeout: 0s
    kind: KubeProxyConfiguration
    logging:
      flushFrequency: 0
      options:
        json:
          infoBufferSize: "0"
        text:
          infoBufferSize: "0"
      verbosity: 0
    metricsBindAddress: ""
    mode: ""
    nftables:
      masqueradeAll: false
      masqueradeBit: null
      minSyncPeriod: 0s
      syncPeriod: 0s
    nodePortAddresses: null
    oomScoreAdj: null
    portRange: ""
    showHiddenMetricsForVersion: ""
    winkernel:
      enableDSR: false
      forwardHealthCheckVip: false
      networkName: ""
      rootHnsEndpointName: ""
      sourceVip: ""
`

function configOf(manifest: string): string {
  const object = parseYAML(manifest)
  if (typeof object !== 'object' || object === null || !('data' in object)) throw new Error('no data')
  const { data } = object
  if (typeof data !== 'object' || data === null || !('config.conf' in data)) throw new Error('no config.conf')
  return String(data['config.conf'])
}

it('loads as the defaults, with what the cluster said, and nothing to remark', () => {
  const { configuration, notices } = loadText(configOf(configMap), '--hostname-override=node-1')
  expect(configuration).toEqual({
    ...defaultConfiguration(),
    hostnameOverride: 'node-1',
    clusterCIDRs: [{ address: '10.244.0.0', prefix: 16 }],
    clientConnection: {
      ...defaultConfiguration().clientConnection,
      kubeconfig: '/var/lib/kube-proxy/kubeconfig.conf',
    },
  })
  expect(notices).toEqual([])
})
