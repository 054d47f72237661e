# Two images of one source, each with its own pinned packages and no others; no compiler, no pip cache, no tests:
#
#   controller  beside istiod. Nobody's rights, a read-only root; writes to /tmp alone.
#   agent       beside proxies: on a node, or as the helper in a pod. Envoy (in one of its packages), nft and conntrack.
#               Runs as root: it enters pods' namespaces (SECURITY.md says which rights, and why). Its root may be
#               read-only too, if /run/hotswitch and /tmp can be written.
#
#     docker build --target controller -t hotswitch-controller .
#     docker build --target agent -t hotswitch-agent .
#
# Honest note: where this file was written there was no image registry, so it has never been built. Its steps are those
# of scripts/setup, which is tested; the lock files are those that scripts/lock writes.

FROM python:3.12-slim-bookworm AS base
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PATH=/opt/hotswitch/bin:$PATH

FROM base AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY requirements requirements
# Byte code is made here, once: the roots that this runs on are read-only.
ENV PYTHONDONTWRITEBYTECODE=

FROM build AS build-controller
RUN python -m venv /opt/hotswitch \
    && /opt/hotswitch/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/controller.lock
COPY hotswitch hotswitch
RUN /opt/hotswitch/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/hotswitch/bin/pip uninstall --yes pip setuptools

FROM build AS build-agent
RUN python -m venv /opt/hotswitch \
    && /opt/hotswitch/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/agent.lock
COPY hotswitch hotswitch
RUN /opt/hotswitch/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/hotswitch/bin/pip uninstall --yes pip setuptools

FROM base AS agent
RUN apt-get update \
    && apt-get install -y --no-install-recommends conntrack iproute2 iptables nftables \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build-agent /opt/hotswitch /opt/hotswitch
ENTRYPOINT ["hotswitch"]
CMD ["agent", "--config", "/etc/hotswitch/agent.yaml"]

# The last stage is what `docker build` makes when no target is named: the one without rights.
FROM base AS controller
COPY --from=build-controller /opt/hotswitch /opt/hotswitch
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["hotswitch"]
CMD ["controller"]
