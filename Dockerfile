# The agent's image: Python, the pinned packages, Envoy (in one of them), nft and conntrack. No compiler, no pip cache,
# no tests, no sandbox. Runs as root: it enters pods' namespaces (SECURITY.md says which rights, and why).
#
# Honest note: where this file was written there was no image registry, so it has never been built. Its steps are those
# of scripts/setup, which is tested.

FROM python:3.12-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/hotswitch
COPY requirements/agent.lock requirements/
RUN /opt/hotswitch/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/agent.lock
COPY pyproject.toml README.md LICENSE ./
COPY hotswitch hotswitch
RUN /opt/hotswitch/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.12-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends conntrack iproute2 iptables nftables \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/hotswitch /opt/hotswitch
ENV PATH=/opt/hotswitch/bin:$PATH PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["hotswitch"]
CMD ["agent", "--config", "/etc/hotswitch/agent.yaml"]
