# A static binary and nothing else. MPTCP depends on the host's kernel, not on the image.
#
#	docker build -t mpgate .
#	docker run -v /etc/mpgate:/etc/mpgate:ro -p 8080:8080 mpgate
#
# Published ports may pass through a proxy of the container runtime, which uses TCP. For MPTCP from
# outside, use the host's network (--network host).

ARG GO_IMAGE=docker.io/library/golang:1.27
FROM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=devel
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.release=${VERSION}" -o /out/usr/local/bin/mpgate ./cmd/mpgate \
	&& mkdir -p /out/etc/ssl/certs /out/etc/mpgate /out/run /out/var/lib /out/tmp /own/run/mpgate /own/var/lib/mpgate \
	&& cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ \
	&& echo 'mpgate:x:10001:10001::/var/lib/mpgate:/sbin/nologin' >/out/etc/passwd \
	&& echo 'mpgate:x:10001:' >/out/etc/group \
	&& chmod 1777 /out/tmp

FROM scratch
COPY --from=build /out/ /
COPY --from=build --chown=10001:10001 /own/ /
USER 10001:10001
# The directory of the admin socket for an ordinary user: `mpgate health` and others find it there.
ENV XDG_RUNTIME_DIR=/run XDG_STATE_HOME=/var/lib
VOLUME /var/lib/mpgate
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=2s CMD ["/usr/local/bin/mpgate", "health"]
ENTRYPOINT ["/usr/local/bin/mpgate"]
CMD ["run"]
