"""MicroPython's sockets, TLS and asyncio: what its ports to Linux and to chips have in common."""

import tls


def tls_context(authorities, cert_der, key_der):
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    # With CERT_REQUIRED the name is checked too. TLS 1.2 is the only version there is.
    context.verify_mode = tls.CERT_REQUIRED
    for ca in authorities:
        context.load_verify_locations(ca)
    if cert_der is not None:
        context.load_cert_chain(bytes(cert_der), bytes(key_der))
    return context


def tls_unchecked():
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.verify_mode = tls.CERT_NONE
    return context


def tls_server(authorities, cert_der, key_der):
    context = tls.SSLContext(tls.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bytes(cert_der), bytes(key_der))
    context.verify_mode = tls.CERT_REQUIRED
    for ca in authorities:
        context.load_verify_locations(ca)
    return context


def stream(sock, context, server_name):
    if context is None:
        return sock
    # The handshake is made by the first writes and reads, once the connection is there.
    if server_name is None:
        return context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
    return context.wrap_socket(sock, server_hostname=server_name, do_handshake_on_connect=False)


def asyncio_host(loop):
    from motelet.aiohost import Host

    return Host(loop)
