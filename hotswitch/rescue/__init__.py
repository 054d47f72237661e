"""The spare Envoy: one warm process that can stand in for the sidecars of many pods without giving mTLS away (S4.3).

It listens inside each pod's namespace (15106 inbound, 15101 outbound) before anything has failed, so that the gate only
has to redirect. It holds the pod's own identity, keeps L4 authorization and the trust domain, and passes bytes on to
the original destination; STRICT stays STRICT because a raw filter chain exists only where plaintext is allowed.
Routing, retries, L7 telemetry, JWT, ext-authz and Wasm are lost while it serves.

    pod.py            what one pod needs                 identity.py   certificate, key, roots; sds.py fetches them,
                                                     node_account.py gets them from istiod,
                                                     output_certs.py reads them from files
    authorization.py  Istio's policies, the L4 part      rbac.py       the same as Envoy's network RBAC
    listeners.py, clusters.py, tls.py                    a pod's two doors, as Envoy's messages
    template.py, resources.py                            the messages as bytes, cheap enough for 250 pods
    xds.py, xds_stream.py                                the agent's ADS server, on a private unix socket
    bootstrap.py, launch.py, program.py, process.py      the Envoy process: rights, respawn, adoption
    service.py        `Rescue`, the facade for the agent

Keys live in memory only, here and in Envoy: never in files, arguments, environment, logs, core dumps or config dumps.
"""
