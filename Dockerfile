# The image of p2pcore: the program alone, on no base image.
#
#   docker build -t p2pcore .
#
# GO_IMAGE is an image with Go of go.mod's version; it needs no shell. No step asks for BuildKit.
ARG GO_IMAGE=golang:1.26

FROM ${GO_IMAGE} AS build
# Where the modules come from, if not from Go's public proxy.
ARG GOPROXY
ENV CGO_ENABLED=0
WORKDIR /src
COPY go.mod go.sum ./
RUN ["go", "mod", "download"]
COPY . .
# There is no .git here, so that the program does not know its version's commit.
RUN ["go", "build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", "/out/", "./cmd/p2pcore"]
WORKDIR /empty

FROM scratch
COPY --from=build /out/p2pcore /usr/local/bin/p2pcore
# Volumes that are mounted here for the first time take the owner over.
COPY --from=build --chown=65532:65532 /empty /data
COPY --from=build --chown=65532:65532 /empty /net
ENV PATH=/usr/local/bin HOME=/data P2PCORE_STORE=/data/store
USER 65532:65532
# All that has to outlive the container: feeds, keys, and the node's identity.
VOLUME /data
# Peers, over QUIC and TCP. The HTTP API listens on loopback, inside the container.
EXPOSE 4101/udp 4101/tcp
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["p2pcore", "status", "--ready", "--quiet"]
ENTRYPOINT ["p2pcore"]
CMD ["daemon"]
