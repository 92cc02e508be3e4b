"""What a WebSocket connection keeps of its opening and nobody looks at again: 5 KiB for each board."""

from websockets.asyncio.connection import Connection


def forget_opening(connection: Connection) -> None:
    """Let go of both sides' headers and of the peer's certificate as asyncio has it, a dict."""
    for opening in (connection.request, connection.response):
        if opening is not None:
            opening.headers.clear()
    certificate = connection.transport.get_extra_info("peercert")
    if certificate is not None:
        certificate.clear()
