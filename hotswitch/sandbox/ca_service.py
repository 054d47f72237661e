"""istiod's certificate service, as far as node accounts are concerned: it really issues, by the sandbox's authority.

Who may ask is what istiod looks at: a bearer token that it knows (here: a set of tokens), in whose name
(CA_TRUSTED_NODE_ACCOUNTS), and for whom (identities of pods on the caller's node). It refuses in istiod's own words,
with UNAUTHENTICATED. The messages are built with protobuf's own library, not with what the agent writes them by.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from cryptography import x509
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2

from hotswitch.sandbox.ca import CertificateAuthority

SERVICE = "istio.v1.auth.IstioCertificateService"
SERVER_NAME = "istiod.istio-system.svc"


def _messages() -> tuple[Any, Any]:
    """IstioCertificateRequest and -Response, with the fields that are used (security/v1alpha1/ca.proto)."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="sandbox/ca.proto", package="istio.v1.auth", syntax="proto3")
    file.dependency.append(struct_pb2.DESCRIPTOR.name)
    asked, given = file.message_type.add(name="IstioCertificateRequest"), file.message_type.add()
    given.name = "IstioCertificateResponse"
    asked.field.add(name="csr", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    asked.field.add(name="validity_duration", number=3, type=kinds.TYPE_INT64, label=kinds.LABEL_OPTIONAL)
    struct = {"type": kinds.TYPE_MESSAGE, "type_name": ".google.protobuf.Struct"}
    asked.field.add(name="metadata", number=4, label=kinds.LABEL_OPTIONAL, **struct)
    given.field.add(name="cert_chain", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    names = ("istio.v1.auth.IstioCertificateRequest", "istio.v1.auth.IstioCertificateResponse")
    request, response = (message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in names)
    return request, response


REQUEST, RESPONSE = _messages()


@dataclass
class CertificateService:
    """`accounts`: token -> ServiceAccount ("namespace/name"). `trusted`: CA_TRUSTED_NODE_ACCOUNTS. `on_node`: SPIFFE
    ids of pods on the callers' node. `lifetime_s`: of what is issued; None: what is asked for."""

    ca: CertificateAuthority
    accounts: dict[str, str] = field(default_factory=dict)
    trusted: set[str] = field(default_factory=set)
    on_node: set[str] = field(default_factory=set)
    lifetime_s: float | None = None
    issued: list[str] = field(default_factory=list)  # SPIFFE ids, in turn
    asked_for_s: list[int] = field(default_factory=list)

    async def create(self, data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        request = REQUEST.FromString(data)
        headers = dict(context.invocation_metadata() or ())
        account = self.accounts.get(str(headers.get("authorization", "")).removeprefix("Bearer "))
        if account is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "request authenticate failure")
        who = request.metadata.fields["ImpersonatedIdentity"].string_value
        if account not in self.trusted or who not in self.on_node:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "request impersonation authentication failure")
        asked = x509.load_pem_x509_csr(request.csr.encode())
        self.asked_for_s.append(request.validity_duration)
        lifetime_s = request.validity_duration if self.lifetime_s is None else self.lifetime_s
        chain = self.ca.sign(asked.public_key(), who, time.time() + lifetime_s)
        self.issued.append(who)
        answer: bytes = RESPONSE(cert_chain=[chain.decode(), self.ca.root_pem.decode()]).SerializeToString()
        return answer

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Its address, on loopback, with a certificate for SERVER_NAME."""
        own = self.ca.issue(f"spiffe://{SERVER_NAME}", dns=SERVER_NAME)
        server = grpc.aio.server()
        method = grpc.unary_unary_rpc_method_handler(self.create)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"CreateCertificate": method}),))
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(own.key_pem, own.chain_pem)]))
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(None)
