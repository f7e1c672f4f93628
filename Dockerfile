# kube-penstock as one process on a small Debian. Any OCI builder: it needs no privileges and asks no questions.
FROM node:24.21.0-bookworm-slim AS build
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts
COPY tsconfig.json ./
COPY hack/build.mjs hack/
COPY src src
RUN node hack/build.mjs

FROM debian:bookworm-slim
# Both variants of iptables are in one package. Node needs the C++ library, which this Debian lacks.
RUN export DEBIAN_FRONTEND=noninteractive \
 && apt-get update -q \
 && apt-get install -q -y --no-install-recommends iptables nftables ipset ipvsadm iproute2 libstdc++6 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /usr/local/bin/node /usr/local/bin/node
COPY --from=build /build/dist/ /usr/local/lib/penstock/
COPY LICENSE /usr/local/share/doc/penstock/
# Under kube-proxy's name too, for whoever starts it by that. The small young generation costs no time and saves memory.
RUN printf '%s\n' '#!/bin/sh' \
    'exec /usr/local/bin/node --max-semi-space-size=2 /usr/local/lib/penstock/penstock.js "$@"' \
    >/usr/local/bin/penstock \
 && chmod 755 /usr/local/bin/penstock \
 && ln -s penstock /usr/local/bin/kube-proxy \
 && penstock --version
ENTRYPOINT ["/usr/local/bin/penstock"]
