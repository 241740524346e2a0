# The service in a container, by Dockerflow's rules: docs/deploying.md says how to build and run it.
#
#   docker build --tag taskcluster-pulse --build-arg PULSE_COMMIT="$(git rev-parse HEAD)" .
#   docker run --rm taskcluster-pulse --help

ARG RUST=1.95
ARG DEBIAN=trixie

FROM docker.io/library/rust:${RUST}-slim-${DEBIAN} AS build
WORKDIR /build
COPY . .
# `dev` builds faster, for trying the image itself.
ARG PROFILE=release
# What /__version__ and --version tell: a git hash, the URL of the repository, the URL of the CI job.
ARG PULSE_COMMIT=
ARG PULSE_SOURCE=
ARG PULSE_BUILD=
RUN deploy/image/build "$PROFILE" /image

# `docker build --target test .` runs the tests that need no other service, where the program is built.
FROM build AS test
ARG PROFILE=release
RUN cargo test --locked --profile "$(test "$PROFILE" = dev && echo test || echo "$PROFILE")" --lib

FROM docker.io/library/debian:${DEBIAN}-slim
RUN groupadd --gid 10001 app && useradd --uid 10001 --gid app --home-dir /app --no-create-home --shell /usr/sbin/nologin app \
  && install -d -o app -g app -m 700 /var/lib/taskcluster-pulse
# The roots that verify the certificates of others. The slim image has none.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /image/ /app/
WORKDIR /app
ENV PATH=/app/bin:$PATH PORT=8000 DATA_DIR=/var/lib/taskcluster-pulse LOG_FORMAT=json
# Where SQLite keeps the database. With PostgreSQL nothing is written.
VOLUME /var/lib/taskcluster-pulse
EXPOSE 8000 9100
USER app
ENTRYPOINT ["/app/bin/entrypoint"]
CMD ["serve"]
