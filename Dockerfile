# kube-penstock as one process on a small Debian. Any OCI builder, for amd64 and arm64: it needs no privileges and asks no
# questions. hack/image builds it, and tries what it built, where no registry can be reached.
ARG NODE_IMAGE=node:24.21.0-bookworm-slim
ARG DEBIAN_IMAGE=debian:12.11-slim

# On the processor of the machine that builds; the program is the same for all, the one native module is not.
FROM --platform=$BUILDPLATFORM ${NODE_IMAGE} AS build
ARG TARGETARCH
# For those who install packages through a mirror of their own.
ARG NPM_CONFIG_REGISTRY
ARG NODE_EXTRA_CA_CERTS
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts
COPY tsconfig.json ./
COPY hack/build.mjs hack/
COPY src src
RUN node hack/build.mjs
# koffi is loaded at run time and is no part of the bundle. Its sources and documents are left behind.
RUN case "$TARGETARCH" in \
      amd64) cpu=x64 ;; \
      arm64) cpu=arm64 ;; \
      *) echo "TARGETARCH is '$TARGETARCH'; this image is made for amd64 and arm64" >&2; exit 1 ;; \
    esac \
 && if [ ! -d "node_modules/@koromix/koffi-linux-$cpu" ]; then \
      npm ci --ignore-scripts --omit=dev --os=linux --cpu="$cpu" --libc=glibc; \
    fi \
 && mkdir -p modules/@koromix \
 && cp -r "node_modules/@koromix/koffi-linux-$cpu" modules/@koromix/ \
 && rm -rf modules/@koromix/*/musl_* \
 && cp -r node_modules/koffi modules/ \
 && rm -rf modules/koffi/doc modules/koffi/vendor

FROM ${NODE_IMAGE} AS node

FROM ${DEBIAN_IMAGE}
# Both variants of iptables are in one package; the program finds out which one the node uses. modprobe and conntrack are
# for what the kernel does not load, or koffi cannot ask, by itself. Node needs the C++ library, which this Debian lacks.
RUN export DEBIAN_FRONTEND=noninteractive \
 && apt-get update -q \
 && apt-get upgrade -q -y \
 && apt-get install -q -y --no-install-recommends \
      iptables nftables ipset ipvsadm conntrack iproute2 kmod libstdc++6 \
 && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log
COPY --from=node /usr/local/bin/node /usr/local/bin/node
COPY --from=build /build/dist/ /usr/local/lib/penstock/
COPY --from=build /build/modules/ /usr/local/lib/penstock/node_modules/
COPY LICENSE /usr/local/share/doc/penstock/
# Under kube-proxy's name too, for whoever starts it by that. The small young generation costs no time and saves memory.
RUN printf '%s\n' '#!/bin/sh' \
    'exec /usr/local/bin/node --max-semi-space-size=2 /usr/local/lib/penstock/penstock.js "$@"' \
    >/usr/local/bin/penstock \
 && chmod 755 /usr/local/bin/penstock \
 && ln -s penstock /usr/local/bin/kube-proxy \
 && penstock --version
ENTRYPOINT ["/usr/local/bin/penstock"]
